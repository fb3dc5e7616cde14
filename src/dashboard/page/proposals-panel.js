/** Proposals of the page Consortium: what each needs, who has answered, and the decisions of this institution. */
import { useRef, useState } from 'preact/hooks'
import { html } from './html.js'
import { run, useCommand } from './node.js'
import {
  Action,
  Badge,
  Confirm,
  Field,
  Loading,
  LongTable,
  Panel,
  Table,
  usePage,
  useQuestion,
} from './parts.js'
import { count, day } from './words.js'

const STATES = { open: 'busy', applied: 'good', expired: 'plain', impossible: 'warn' }

/** @param rules who decides what: `{ kind, rule }`; @param members names of the institutions that may be chosen */
export function Proposals({ rules, members, reload }) {
  const { say, about } = usePage()
  const read = useCommand('proposals')
  const [question, ask] = useQuestion()
  if (read.value === undefined)
    return html`<${Panel} title="Proposals"><${Loading} error=${read.error} /><//>`
  const { proposals, equivocations } = read.value
  const answer = (command, request, words) =>
    run(command, request).then(async (result) => {
      say(words(result.proposal ?? result))
      await Promise.all([read.reload(), reload()])
    })
  const decide = (command, proposal) =>
    ask({
      title: command === 'endorse' ? `Endorse: ${proposal.text}?` : `Vote against: ${proposal.text}?`,
      text: [
        command === 'endorse'
          ? consequence(proposal)
          : 'Your vote counts against it. The others may still carry it.',
        'Your answer is signed and final: it cannot be changed later.',
      ],
      action: command === 'endorse' ? 'Endorse' : 'Reject',
      isHarmless: command === 'endorse' && proposal.change.kind !== 'revoke',
      run: () =>
        answer(command, command === 'endorse' ? { id: proposal.name } : { who: proposal.name }, outcome),
    })
  const own = ({ undecided }) => undecided.includes(about.institution)
  return html`
    ${equivocations.map(
      ({ proposals: both, institutions }) =>
        html`<p class="alert" role="alert" key=${both.join()}>${both.join(' and ')} contradict each other, and both reached their quorum. Supported both: ${institutions.join(', ') || 'nobody'}.</p>`,
    )}
    <${Panel} title="Proposals" aside=${html`<span class="quiet">${proposals.filter(({ state }) => state === 'open').length} open</span>`}>
      <${LongTable} caption="Proposals and their answers" rows=${[...proposals].reverse()} keyOf=${({ id }) => id}
        textOf=${({ text, by, state, name }) => `${text} ${by} ${state} ${name}`} empty="Nobody has proposed anything."
        columns=${[
          {
            name: 'Proposal',
            of: ({ text, by, name }) =>
              html`${text}<br /><span class="quiet">by ${by}, <code>${name}</code></span>`,
          },
          { name: 'State', of: (one) => html`<${State} proposal=${one} />` },
          { name: 'Answers', of: (one) => html`<${Answers} proposal=${one} />` },
          {
            name: 'Decision',
            of: (one) =>
              one.state === 'open' && own(one)
                ? html`<span class="buttons">
                    <${Action} kind="primary small" onAct=${async () => decide('endorse', one)}>Endorse<//>
                    <${Action} kind="small" onAct=${async () => decide('reject', one)}>Reject<//></span>`
                : '',
          },
        ]} />
      <${Propose} rules=${rules} members=${members} ask=${ask} answer=${answer} />
    <//>
    <${Panel} title="Who decides">
      <${Table} caption="Rules of the consortium" rows=${rules} keyOf=${({ kind }) => kind} columns=${[
        { name: 'To', of: ({ kind }) => KINDS[kind] ?? kind },
        { name: 'it takes', of: ({ rule }) => ruleWords(rule) },
      ]} />
    <//>
    <${Confirm} question=${question} onClose=${() => ask(undefined)} />`
}

/** A rule as commands write it, for people: `majority members` is more than half of them. */
export function ruleWords(rule = 'majority members') {
  return rule.replace(/^majority /, 'more than half of the ')
}

const KINDS = {
  admit: 'admit an institution',
  revoke: 'end a membership',
  rotate: 'replace the key of a member',
  rules: 'change these rules',
  renew: 'renew the membership of everyone',
  withdraw: 'withdraw an expert for its owner',
}

function State({ proposal: { state, needed, supporters, expiresAt, rosterVersion, reason } }) {
  const words =
    state === 'open'
      ? `${supporters.length} of ${needed} until ${day(expiresAt)}`
      : state === 'applied'
        ? `in effect since roster ${rosterVersion}`
        : state === 'expired'
          ? needed === undefined
            ? 'ended'
            : `ended with ${supporters.length} of ${needed}`
          : 'not possible now'
  return html`<${Badge} kind=${STATES[state]}>${words}<//>${reason && html`<div class="reason">${reason}</div>`}`
}

function Answers({ proposal: { supporters, rejecters, undecided, state } }) {
  const lines = [
    ['for', supporters],
    ['against', rejecters],
    ['still to answer', state === 'open' ? undecided : []],
  ].filter(([, names]) => names.length > 0)
  return lines.map(
    ([word, names]) => html`<div key=${word}><span class="quiet">${word}:</span> ${names.join(', ')}</div>`,
  )
}

/** What follows from an endorsement, in a sentence. */
function consequence({ change, needed, supporters }) {
  const missing = needed - supporters.length - 1
  const when =
    missing > 0 ? `When ${count(missing, 'more institution agrees', 'more institutions agree')}` : 'At once'
  switch (change.kind) {
    case 'admit':
      return `${when}, ${change.institution} becomes a member: it receives every expert that members publish, and may publish its own.`
    case 'revoke':
      return `${when}, the membership ends. The institution can publish nothing any more, and this cannot be undone: it could only join again under a new key.`
    case 'rotate':
      return `${when}, a new key acts for the institution, and the old one can sign nothing any more.`
    case 'rules':
      return `${when}, other numbers of members decide.`
    case 'renew':
      return `${when}, the membership of everyone is good for another year.`
    default:
      return `${when}, every member stops using the packages and deletes their files. This cannot be undone.`
  }
}

function outcome({ state, supporters, needed, text, undecided }) {
  if (state === 'applied') return `done: ${text}`
  if (state !== 'open') return `${text}: ${state}`
  return `${supporters.length} of ${needed} agree to ${text}; still to answer: ${undecided.join(', ') || 'nobody'}`
}

/** A new proposal. Admissions are proposed by the button beside an application. */
function Propose({ rules, members, ask, answer }) {
  const { role } = usePage()
  const [kind, setKind] = useState('renew')
  const form = useRef(null)
  if (role !== 'operator') return null
  const propose = (event) => {
    event.preventDefault()
    const given = new FormData(form.current)
    const subject = kind === 'rules' ? `${given.get('rule')}=${given.get('number')}` : given.get('subject')
    const request = {
      kind,
      ...(kind === 'renew' ? {} : { subject }),
      ...(kind === 'revoke' ? { reason: given.get('reason') } : {}),
      ...(kind === 'rotate' ? { key: given.get('key'), next: given.get('next') } : {}),
    }
    ask({
      title: `Propose to ${KINDS[kind]}${kind === 'renew' ? '' : `: ${subject}`}?`,
      text: [
        `It takes ${ruleWords(rules.find((rule) => rule.kind === kind)?.rule)}. Your proposal is signed, counts as your own support, and goes to all members.`,
        ...(kind === 'revoke' || kind === 'withdraw' ? ['Once it is in effect, it cannot be undone.'] : []),
      ],
      action: 'Propose',
      isHarmless: kind === 'renew' || kind === 'rules',
      run: () => answer('propose', request, outcome),
    })
  }
  return html`<details class="more"><summary>Propose something</summary>
    <form ref=${form} class="form" onSubmit=${propose}>
      <${Field} label="To"><select value=${kind} onChange=${(event) => setKind(event.target.value)}>${[
        'renew',
        'revoke',
        'withdraw',
        'rotate',
        'rules',
      ].map((one) => html`<option value=${one} selected=${one === kind}>${KINDS[one]}</option>`)}</select><//>
      ${(kind === 'revoke' || kind === 'rotate') && html`<${Field} label="Institution"><select name="subject">${members.map((name) => html`<option>${name}</option>`)}</select><//>`}
      ${
        kind === 'revoke' &&
        html`<${Field} label="Reason"><select name="reason"><option value="other">other</option><option value="left">it has left</option><option value="compromised">its key is compromised</option></select><//>`
      }
      ${
        kind === 'rotate' &&
        html`<${Field} label="New key" hint="peer id of the new institution key"><input name="key" required /><//>
        <${Field} label="Digest of the key after that"><input name="next" required pattern="sha256:[a-f0-9]{64}" /><//>`
      }
      ${kind === 'withdraw' && html`<${Field} label="Expert" hint="its name, or the beginning of the id of a package"><input name="subject" required /><//>`}
      ${
        kind === 'rules' &&
        html`<${Field} label="Decision"><select name="rule">${rules.map(({ kind: one }) => html`<option value=${one}>${KINDS[one] ?? one}</option>`)}</select><//>
        <${Field} label="It should take" hint="majority members, all members, or a number, as in 3 members or 2 founders"><input name="number" required /><//>`
      }
      <p><button type="submit">Propose …</button></p>
    </form></details>`
}
