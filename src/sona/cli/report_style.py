"""How the report's page looks: light or dark as the reader's system is, wide or on a phone, on screen or paper."""

STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1a; --paper: #fcfcfa; --line: #dcdbd5; --quiet: #65645f; --tint: #f1f0eb;
  --accent: #1f5fbf; --good: #0b6b3a; --bad: #a3201d; }
@media (prefers-color-scheme: dark) { :root { --ink: #ecebe6; --paper: #161615; --line: #3a3935; --quiet: #a5a39c;
  --tint: #232220; --accent: #7fb0ff; --good: #6fd39b; --bad: #ff9a94; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1rem; font-weight: 600; color: var(--quiet); margin: 0 0 1.25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; }
p, ul { margin: .5rem 0; max-width: 46rem; } ul { padding-left: 1.2rem; }
.verdict { border-left: .4rem solid var(--quiet); padding: .1rem 0 .1rem 1rem; margin: 0 0 1rem; }
.verdict strong { display: block; font-size: 1.9rem; line-height: 1.2; margin-bottom: .35rem; color: var(--quiet); }
.verdict p { font-size: 1.1rem; margin: .25rem 0; }
.improved { border-color: var(--good); } .improved strong, .good { color: var(--good); }
.worse { border-color: var(--bad); } .worse strong, .bad { color: var(--bad); }
.warning { border: 1px solid var(--bad); border-radius: .5rem; padding: .6rem 1rem; }
.tiles { display: grid; grid-template-columns: repeat(4, 1fr); gap: .75rem; margin: 1.25rem 0; }
.tile { background: var(--tint); border-radius: .5rem; padding: .7rem .9rem; }
.tile b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; line-height: 1.3; }
.tile span { color: var(--quiet); font-size: .85rem; line-height: 1.35; display: block; }
.meter { height: .5rem; background: var(--line); border-radius: .25rem; overflow: hidden; margin: .45rem 0 .3rem; }
.meter i { display: block; height: 100%; background: var(--accent); }
.meter .full { background: var(--bad); }
.note, figcaption { color: var(--quiet); font-size: .9rem; }
figure { margin: .5rem 0; } figure svg { display: block; width: 100%; height: auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; margin: .5rem 0 1rem; }
th, td { text-align: left; padding: .4rem .9rem .4rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
thead th { font-size: .85rem; color: var(--quiet); font-weight: 600; vertical-align: bottom; }
tbody th { font-weight: 600; }
.why { white-space: normal; min-width: 14rem; margin: 0; }
.error { color: var(--quiet); }
.band { fill: var(--accent); opacity: .18; } .curve { fill: none; stroke: var(--accent); stroke-width: 2.5; }
.dot { fill: var(--accent); } .grid { stroke: var(--line); } .zero { stroke: var(--ink); stroke-dasharray: 4 4; }
.event { stroke: var(--bad); stroke-width: 1.5; } .reach { stroke: var(--ink); stroke-width: 2; }
svg text { fill: var(--quiet); font: 13px system-ui, sans-serif; font-variant-numeric: tabular-nums; }
svg .said { fill: var(--ink); font-weight: 600; }
footer { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: .75rem; }
code { font: .9em ui-monospace, monospace; background: var(--tint); padding: .05em .3em; border-radius: .25em;
  overflow-wrap: anywhere; }
@media (max-width: 640px) { th, td { padding-right: .7rem; }
  svg.wide text { font-size: 22px; } main { padding-top: 1.25rem; }
  .tiles { grid-template-columns: 1fr 1fr; } .verdict strong { font-size: 1.6rem; } .verdict p { font-size: 1rem; } }
@media print { main { max-width: none; padding: 0; } .scroll { overflow: visible; } }
"""
"""CSS of the whole page."""
