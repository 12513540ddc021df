"""How a plan is read: operators, what feeds what, what weighs, and the vector it becomes."""
