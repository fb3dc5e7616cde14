/**
 * The page Privacy: what the texts have spent, what has left this node, and which private copies lie on its disk. A panel
 * is shown if the node has the command that it shows.
 */
import { html } from './html.js'
import { run, runWorded, useCommand, useRead } from './node.js'
import {
  Action,
  Confirm,
  Field,
  fieldOf,
  Loading,
  LongTable,
  Panel,
  Table,
  useOptional,
  usePage,
  useQuestion,
} from './parts.js'
import { day, size } from './words.js'

export function Privacy() {
  const { about } = usePage()
  const has = (command) => about.commands.includes(command)
  return html`
    ${has('privacy') && html`<${Budget} />`}
    ${has('egress') && html`<${Egress} />`}
    ${has('data') && html`<${Words} title="Private copies on this disk" command="data" />`}`
}

/** Time between two reads of what takes the node long, ms. */
const SLOW_MS = 300_000

const epsilonOf = (epsilon) =>
  epsilon === null || epsilon === undefined ? 'no bound' : (Math.ceil(epsilon * 100) / 100).toString()

/** What each text has spent of its privacy, and the limit of the operator. */
function Budget() {
  const { role, say } = usePage()
  const { value, error, reload } = useRead(() => run('privacy'), [], SLOW_MS, false)
  const [question, ask] = useQuestion()
  const title = 'What the texts have spent'
  if (value === undefined) return html`<${Panel} title=${title}><${Loading} error=${error} /><//>`
  const { limit, rows, groups } = value
  const change = (event) => {
    event.preventDefault()
    const epsilon = fieldOf(new FormData(event.target), 'epsilon') || 'none'
    ask({
      title: epsilon === 'none' ? 'Remove the limit?' : `Limit every text to epsilon ${epsilon}?`,
      text:
        epsilon === 'none'
          ? 'Trainings without a guarantee are possible again, and nothing is refused because of what a text has spent.'
          : 'Trainings and publications that would spend more of any document are refused from now on, among them all trainings without a guarantee.',
      action: epsilon === 'none' ? 'Remove the limit' : 'Set the limit',
      isHarmless: epsilon !== 'none',
      run: async () => {
        await run('privacy', { action: 'limit', epsilon })
        say('the limit is changed')
        await reload()
      },
    })
  }
  return html`<${Panel} title=${title} aside=${html`<span class="quiet">${limit === null ? 'no limit' : `limit: ε ${limit.epsilon} for each document`}</span>`}>
    <${Table} caption="Documents by what they have spent" rows=${groups} keyOf=${({ documents, trainings }) => `${documents} ${trainings}`} empty="No text was trained on yet."
      columns=${[
        { name: 'Documents', isNumber: true, of: ({ documents }) => documents },
        { name: 'Of', of: ({ trainings }) => trainings.join(', ') },
        { name: 'Epsilon', isNumber: true, of: ({ epsilon }) => epsilonOf(epsilon) },
        {
          name: 'Tighter',
          isNumber: true,
          of: ({ tightEpsilon }) => (tightEpsilon === undefined ? '' : epsilonOf(tightEpsilon)),
        },
        { name: 'Left', isNumber: true, of: ({ left }) => (left === undefined ? '' : left.toFixed(2)) },
      ]} />
    ${
      rows.length > 0 &&
      html`<details><summary>What it was spent on</summary>
        <${LongTable} caption="What was spent" rows=${rows} keyOf=${({ training, at, purpose }) => `${training} ${at} ${purpose}`} textOf=${({ training, purpose }) => `${training} ${purpose}`}
          columns=${[
            { name: 'Training', of: ({ training }) => training },
            { name: 'Documents', isNumber: true, of: ({ documents }) => documents },
            { name: 'Day', isWhole: true, of: ({ at }) => day(at) },
            { name: 'Epsilon', isNumber: true, of: ({ epsilon }) => epsilonOf(epsilon) },
            { name: 'For', of: ({ purpose }) => purpose },
          ]} /></details>`
    }
    ${
      role === 'operator' &&
      html`<form class="row" onSubmit=${change}><${Field} label="Limit for each document" hint="an epsilon, as in 8; empty: no limit"><input name="epsilon" inputmode="decimal" /><//>
        <button type="submit">Change …</button></form>`
    }
    <${Confirm} question=${question} onClose=${() => ask(undefined)} />
  <//>`
}

/** The result of a command in its own words. */
function Words({ title, command }) {
  const { value, error } = useRead(() => runWorded(command), [command], SLOW_MS, false)
  return html`<${Panel} title=${title}>${
    value === undefined
      ? html`<${Loading} error=${error} />`
      : html`<pre class="words">${value.words.join('\n')}</pre>`
  }<//>`
}

/** What left the node, by kind and receiver, from the ledger. */
function Egress() {
  const { say } = usePage()
  const { value, error } = useCommand('egress')
  /** @type {import('./parts.js').Optional<string[]>} */
  const [verified, setVerified] = useOptional()
  if (value === undefined)
    return html`<${Panel} title="What left this node"><${Loading} error=${error} /><//>`
  const own = value.items.filter(({ isOverhead }) => !isOverhead)
  const overhead = value.items.filter(({ isOverhead }) => isOverhead)
  const sum = (items) => items.reduce((total, { bytes }) => total + bytes, 0)
  const verify = async () => {
    const { words } = await runWorded('egress', { action: 'verify' })
    setVerified(words)
    say('the ledger was verified')
  }
  return html`<${Panel} title="What left this node" aside=${html`<${Action} onAct=${verify}>Verify the ledger<//>`}>
    ${verified && html`<pre class="words" role="status">${verified.join('\n')}</pre>`}
    <${LongTable} caption="What left this node, by kind and receiver" rows=${own} textOf=${({ what, institution, to }) => `${what} ${institution} ${to}`} keyOf=${({ kind, to, file }) => `${kind} ${to} ${file}`} columns=${[
      {
        name: 'What',
        of: ({ what }) => what,
      },
      { name: 'Number', isNumber: true, of: ({ count }) => count },
      { name: 'To', of: ({ institution, to }) => institution ?? to },
      { name: 'Bytes', isNumber: true, of: ({ bytes }) => size(bytes) },
    ]} />
    <p class="quiet">and ${size(sum(overhead))} that the network protocol needs for itself${
      value.removedBefore === undefined ? '' : `; rows until ${day(value.removedBefore)} were summed up`
    }</p>
  <//>`
}
