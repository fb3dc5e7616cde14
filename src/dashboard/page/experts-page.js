/** The page Experts: every package with its state, its facts, what was measured, and the operator's decisions. */
import { useMemo, useState } from 'preact/hooks'
import { html } from './html.js'
import { run, startJob, useCommand } from './node.js'
import { explain, isUnderWay, shareDone, stateOf } from './package-state.js'
import {
  Action,
  Badge,
  Confirm,
  Loading,
  LongTable,
  Meter,
  Panel,
  Table,
  usePage,
  useQuestion,
} from './parts.js'
import { Withdrawals, WithdrawnExports } from './withdrawals-panel.js'
import { day, short, size } from './words.js'

/** Changes of bits per byte below this are shown as none. */
const SAME = 0.005

export function Experts() {
  const [isBusy, setBusy] = useState(false)
  const { value, error, reload } = useCommand('experts', {}, isBusy ? 1000 : 30_000)
  const [question, ask] = useQuestion()
  const packages = value?.packages
  const sorted = useMemo(() => sortedByNeed(packages ?? []), [packages])
  const underWay = sorted.some(isUnderWay)
  if (underWay !== isBusy) setBusy(underWay)
  if (value === undefined) return html`<${Loading} error=${error} />`
  return html`
    ${value.withdrawnExports.length > 0 && html`<${WithdrawnExports} exports=${value.withdrawnExports} />`}
    <${Panel} title="Packages">
      <${LongTable} caption="Packages of the consortium" rows=${sorted} keyOf=${({ id }) => id} textOf=${textOf}
        empty="No expert has been published yet." columns=${columns(ask, reload)} />
    <//>
    <${Gains} packages=${sorted} />
    <${Withdrawals} />
    <${Confirm} question=${question} onClose=${() => ask(undefined)} />`
}

const textOf = ({ institution, expert, domain, license, state, id }) =>
  `${institution} ${expert} ${domain} ${license} ${state} ${id}`

const NEED = [
  'disk-full',
  'failed',
  'announced',
  'fetching',
  'fetched',
  'judging',
  'waiting-for-holder',
  'accepted',
]

/** Packages that need something first, then those in use, then the others, the latest verdict first. */
function sortedByNeed(packages) {
  const rank = ({ state }) => (NEED.includes(state) ? NEED.indexOf(state) : NEED.length)
  return [...packages].sort((a, b) => rank(a) - rank(b) || (b.verdict?.at ?? 0) - (a.verdict?.at ?? 0))
}

/** @param {(question: import('./parts.js').Question) => void} ask */
const columns = (ask, reload) => [
  {
    name: 'Expert',
    of: ({ institution, expert, isOwn, id }) =>
      html`<strong>${expert ?? 'unknown'}</strong> of ${institution ?? 'an unknown institution'}${isOwn ? html`${' '}<span class="quiet">published here</span>` : ''}<br />
        <code class="quiet" title=${id}>${short(id)}…</code>`,
  },
  { name: 'State', of: (one) => html`<${State} package=${one} />` },
  { name: 'Domain', of: ({ domain }) => domain ?? '' },
  { name: 'Licence', isWhole: true, of: ({ license }) => license ?? '' },
  {
    name: 'Privacy and audit',
    of: ({ privacy, audit, expert }) =>
      expert === undefined
        ? ''
        : html`${privacyWords(privacy)}<div class="reason">${auditWords(audit)}</div>`,
  },
  { name: 'Size', isNumber: true, of: ({ bytes }) => (bytes === undefined ? '' : size(bytes)) },
  {
    name: 'Consent until',
    isWhole: true,
    of: ({ expiresAt }) => (expiresAt === undefined ? '' : day(expiresAt)),
  },
  {
    name: 'Actions',
    isWhole: true,
    of: (one) => html`<${Decisions} package=${one} ask=${ask} reload=${reload} />`,
  },
]

/** What the manifest states about privacy; a receiver cannot check it. */
function privacyWords(privacy) {
  if (privacy === undefined) return html`<span class="quiet">not stated</span>`
  if (privacy.mechanism === 'none') return 'no guarantee'
  const epsilon = privacy.epsilonMicro === undefined ? '' : ` ε ${(privacy.epsilonMicro / 1e6).toFixed(2)}`
  return `${privacy.mechanism}${epsilon}, self-attested`
}

/** What the manifest states about the attacks of its publisher on it. */
function auditWords(audit) {
  if (audit === undefined) return 'not audited'
  const { canaries, extraction, acceptedRisk } = audit
  const epsilon = (canaries?.epsilonLowMicro ?? 0) / 1e6
  return [
    'audited by its publisher',
    ...(epsilon > 0 ? [`ε at least ${epsilon.toFixed(2)}`] : []),
    ...(extraction === undefined ? [] : [`${extraction.extracted} of ${extraction.texts} texts extracted`]),
    ...(acceptedRisk === undefined ? [] : [`its owner accepted the risk: ${acceptedRisk}`]),
  ].join(', ')
}

function State({ package: one }) {
  const { kind, words } = stateOf(one)
  const more = explain(one)
  const share = shareDone(one)
  return html`<${Badge} kind=${kind}>${words}<//>${more && html`<div class="reason">${more}</div>`}
    ${share !== undefined && html`<${Meter} share=${share} label=${words} />`}`
}

function Decisions({ package: one, ask, reload }) {
  const { say } = usePage()
  const name = `${one.expert} of ${one.institution}`
  const act = async (command, request, words) => {
    await run(command, request)
    say(words)
    await reload()
  }
  const withdraw = () =>
    ask({
      title: `Withdraw ${one.expert}?`,
      text: [
        'Every member stops using it, deletes its file, marks its exports and answers with a signed receipt, as soon as the withdrawal reaches it. Answers are then computed without it.',
        'This cannot be undone. The same weights cannot be published again by anybody; other weights can.',
        'A receipt is what a member states. Nobody can take weights back from a member that ignores the withdrawal.',
      ],
      action: 'Withdraw',
      run: () => act('withdraw', { name: one.expert }, `${one.expert} is withdrawn`),
    })
  const refuse = () =>
    ask({
      title: `Stop using ${name}?`,
      text: 'This node answers without it and deletes its file. Other members are not affected. You can have it judged again later; it is then fetched again.',
      action: 'Stop using it',
      run: () => act('refuse', { package: one.id }, `${name} is not used any more`),
    })
  const accept = () =>
    ask({
      title: `Judge ${name} again?`,
      text: 'This node fetches the file if it has deleted it, and runs all checks and measurements again. If they pass, answers use it from then on.',
      action: 'Judge again',
      isHarmless: true,
      run: async () => {
        await startJob('accept', { package: one.id })
        say(`${name} is judged again`)
      },
    })
  if (one.isOwn && one.state === 'accepted')
    return html`<${Action} kind="small" onAct=${async () => withdraw()}>Withdraw<//>`
  if (one.state === 'accepted') return html`<${Action} kind="small" onAct=${async () => refuse()}>Refuse<//>`
  // An envelope that could not be opened holds no package that could be judged.
  if (one.expert !== undefined && ['refused', 'refused-by-operator', 'failed', 'expired'].includes(one.state))
    return html`<${Action} kind="small" onAct=${async () => accept()}>Judge again<//>`
  return ''
}

/** What the accepted experts brought on this node's texts, as a picture and as a table. */
function Gains({ packages }) {
  const measured = packages.filter(
    ({ state, verdict }) => state === 'accepted' && verdict?.measurement !== undefined,
  )
  if (measured.length === 0) return null
  const rows = measured.flatMap(({ id, expert, institution, verdict: { measurement } }) =>
    [
      ['public text', measurement.public],
      ["this node's own text", measurement.own],
    ]
      .filter(([, loss]) => loss !== undefined)
      .map(([text, { before, after }]) => ({
        id: `${id} ${text}`,
        expert,
        institution,
        text,
        before,
        after,
      })),
  )
  if (rows.length === 0) return null
  const most = Math.max(...rows.map(({ before, after }) => Math.abs(after - before)), 0.01)
  return html`<${Panel} title="Measured when they were judged" aside=${html`<span class="quiet">bits per byte, less is better</span>`}>
    <${Table} caption="Measured gains" rows=${rows} keyOf=${({ id }) => id} columns=${[
      { name: 'Expert', of: ({ expert, institution }) => `${expert} of ${institution}` },
      { name: 'Text', of: ({ text }) => text },
      { name: 'Before', isNumber: true, of: ({ before }) => before.toFixed(3) },
      { name: 'After', isNumber: true, of: ({ after }) => after.toFixed(3) },
      {
        name: 'Change',
        of: ({ before, after }) => {
          const change = after - before
          const kind = Math.abs(change) < SAME ? 'none' : change < 0 ? 'better' : 'worse'
          return html`<span class="change" data-kind=${kind}><span class="change-bar" style=${{ width: `${(60 * Math.abs(change)) / most}px` }}></span>
            ${change > 0 ? '+' : ''}${change.toFixed(3)}</span>`
        },
      },
    ]} />
  <//>`
}
