"""Loop C: what serves together is linked, dreams propose more links, and near-duplicates become one memory.

python examples/11_dreams.py        needs: pip install 'sona[text]'
"""

from sona import SonaEngine

TEXTS = {
    "late": "A parcel that is late is traced by the carrier within two days.",
    "lost": "Parcels that never came are refunded once the carrier confirms the loss.",
    "lost-copy": "Parcels that never came are refunded, once the carrier confirms the loss.",
    "refund": "A refund takes five days to arrive on the card that paid for the order.",
    "address": "To change the delivery address of an order, open the order and choose Edit.",
    "cancel": "An order can be cancelled until it is handed to the carrier.",
    "invoice": "Invoices are sent by mail on the first day of each month.",
    "vat": "To add a tax number to invoices, open Billing and choose Company.",
    "password": "To reset your password, open Settings, then Security, and choose Reset.",
    "phone": "When your phone is lost, sign in with a backup code and remove the phone.",
    "hours": "Our office is open from nine to five on weekdays.",
    "pickup": "Orders may be picked up at the office while it is open.",
}
ASKED = {  # a question, and what helped
    "my parcel never came, where is my money": ("lost", "refund"),
    "the carrier lost the order, I want a refund": ("lost", "refund"),
    "change address or cancel the order": ("address", "cancel"),
    "invoices with a tax number": ("invoice", "vat"),
    "I lost my phone and forgot the password": ("phone", "password"),
}


def main() -> None:
    engine = SonaEngine()
    for name, text in TEXTS.items():
        engine.remember(text, id=name)
    for question, helped in ASKED.items():
        response = engine.process(question)
        shown = {source.id for source in response.sources}
        engine.feedback(response.trajectory_id, rewards={name: 1.0 for name in helped if name in shown})
    print(f"{engine.memory_count} memories, {engine.metrics().edges} pairs linked: similar, or useful together")

    best = next(dream for dream in engine.dream(50) if dream.proposals)  # most come by what is linked already
    print(f"\na dream of score {best.score:.2f} came by {', '.join(dict.fromkeys(best.path))}")
    for link in best.proposals[:3]:
        print(f"  it would link {link.a} with {link.b}")

    plan = engine.plan_consolidation()
    for merge in plan.merges:
        print(f"\nwould merge {merge.gone} into {merge.kept}, their cosine is {merge.similarity:.3f}")

    done = engine.deep_learn(force=True)
    print(f"\nthe cycle dreamt {done.dreams_generated} dreams and took up {done.dreams_integrated},")
    print(f"which made {done.links_dreamt} links: weak ones, until feedback confirms them;")
    print(f"it merged {', '.join(f'{old} into {new}' for old, new in done.gone.items())};")
    print(f"Phi of the memory is {done.phi:.3f}, and {engine.memory_count} memories are left")


if __name__ == "__main__":
    main()
