/** The page Consortium: members, applications, invitations, proposals, keys and co-signed logs. */
import { html } from './html.js'
import { Keys, Logs } from './logs-panel.js'
import { run, useCommand } from './node.js'
import {
  Action,
  Badge,
  Confirm,
  Loading,
  LongTable,
  Panel,
  Table,
  useOptional,
  usePage,
  useQuestion,
} from './parts.js'
import { Proposals, ruleWords } from './proposals-panel.js'
import { day, daysUntil, short } from './words.js'

export function Consortium() {
  const { say } = usePage()
  const { value, error, reload } = useCommand('members')
  const [question, ask] = useQuestion()
  if (value === undefined) return html`<${Loading} error=${error} />`
  const act = async (command, request, words) => {
    await run(command, request)
    say(words)
    await reload()
  }
  const others = value.members.filter(({ isSelf, revoked }) => !isSelf && !revoked)
  return html`
    <p class="quiet">${value.consortium}, roster version ${value.rosterVersion}, valid until ${day(value.rosterExpiresAt)} (${daysUntil(value.rosterExpiresAt)} days)</p>
    <${Applications} requests=${value.requests} rules=${value.rules} ask=${ask} act=${act} reload=${reload} />
    <${Proposals} rules=${value.rules} members=${others.map(({ institution }) => institution)} reload=${reload} />
    <${Panel} title="Members" aside=${html`<span class="quiet">${others.filter(({ connected }) => connected).length} of ${others.length} others connected</span>`}>
      <${LongTable} caption="Members of the consortium" rows=${value.members} keyOf=${({ peerId }) => peerId}
        textOf=${({ institution, peerId, role }) => `${institution} ${peerId} ${role}`} columns=${MEMBER_COLUMNS} />
    <//>
    <${Invitations} invitations=${value.invitations} ask=${ask} act=${act} reload=${reload} />
    <${Keys} />
    <${Logs} />
    <${Confirm} question=${question} onClose=${() => ask(undefined)} />`
}

function Applications({ requests, rules, ask, act, reload }) {
  const { say } = usePage()
  const approve = ({ institution, peerId }) =>
    ask({
      title: `Approve ${institution}?`,
      text: [
        `It takes ${ruleWords(rules.find(({ kind }) => kind === 'admit')?.rule)}. Your approval is signed, counts now, and cannot be taken back.`,
        'A member receives the weights of every expert that members publish, and may publish its own. It receives no text.',
        `Make sure over another channel that the key is theirs: ${peerId}`,
      ],
      action: 'Approve',
      isHarmless: true,
      run: async () => {
        const { approved, proposed, notApproved } = await run('approve', { who: peerId })
        if (approved.length > 0) say(`${institution} is a member`)
        for (const { supporters, needed, undecided } of proposed)
          say(`${supporters.length} of ${needed} members agree; still to answer: ${undecided.join(', ')}`)
        for (const { reason } of notApproved) say(`not approved: ${reason}`, 'bad')
        await reload()
      },
    })
  const dismiss = ({ institution, peerId }) =>
    ask({
      title: `Dismiss the application of ${institution}?`,
      text: 'This node forgets the application; other members keep theirs. The invitation is open again, so the institution can apply once more.',
      action: 'Dismiss',
      run: () => act('reject', { who: peerId }, `the application of ${institution} is dismissed`),
    })
  return html`<${Panel} title="Applications">
    <${Table} caption="Institutions that apply for membership" rows=${requests} keyOf=${({ peerId }) => peerId}
      empty="Nobody applies for membership now."
      columns=${[
        { name: 'Institution', of: ({ institution }) => institution },
        { name: 'Key', of: ({ peerId }) => html`<code title=${peerId}>${short(peerId)}…</code>` },
        { name: 'Obstacle', of: ({ obstacle }) => obstacle ?? '' },
        {
          name: 'Decision',
          of: (request) => html`<span class="buttons">
            <${Action} kind="primary small" isDisabled=${request.obstacle !== undefined} onAct=${async () => approve(request)}>Approve<//>
            <${Action} kind="small" onAct=${async () => dismiss(request)}>Dismiss<//></span>`,
        },
      ]} />
  <//>`
}

const MEMBER_COLUMNS = [
  {
    name: 'Institution',
    of: ({ institution, isSelf }) =>
      html`${institution}${isSelf ? html` <span class="quiet">this node</span>` : ''}`,
  },
  { name: 'Role', of: ({ role }) => role },
  { name: 'State', of: (member) => html`<${MemberState} member=${member} />` },
  { name: 'Key', of: ({ peerId }) => html`<code title=${peerId}>${short(peerId)}…</code>` },
  {
    name: 'Node key until',
    of: ({ nodeKeyExpiresAt }) => (nodeKeyExpiresAt === undefined ? '' : day(nodeKeyExpiresAt)),
  },
]

function MemberState({ member: { revoked, forked, connected } }) {
  if (revoked) return html`<${Badge}>revoked<//>`
  if (forked) return html`<${Badge} kind="bad">frozen: signed two histories<//>`
  return html`<${Badge} kind=${connected ? 'good' : 'warn'}>${connected ? 'connected' : 'away'}<//>`
}

function Invitations({ invitations, ask, act, reload }) {
  const { say } = usePage()
  /** @type {import('./parts.js').Optional<string>} */
  const [invite, setInvite] = useOptional()
  const cancel = (id) =>
    ask({
      title: `Cancel invitation ${id}?`,
      text: 'Whoever holds its line of text cannot apply with it any more. You can make another invitation.',
      action: 'Cancel the invitation',
      run: () => act('invite', { cancel: id }, `invitation ${id} is cancelled`),
    })
  return html`<${Panel} title="Invitations" aside=${html`<${Action} onAct=${async () => {
    setInvite((await run('invite')).invite)
    await reload()
  }}>New invitation<//>`}>
    ${
      invite !== undefined &&
      html`<div class="secret" role="status"><p>Send this line over a channel that both of you trust. With it, one institution can apply. It is shown once.</p>
        <pre><code>${invite}</code></pre>
        <p class="buttons"><button type="button" onClick=${() => navigator.clipboard.writeText(invite).then(() => say('copied'))}>Copy</button>
        <button type="button" onClick=${() => setInvite(undefined)}>Hide</button></p></div>`
    }
    <${Table} caption="Open invitations" rows=${invitations} keyOf=${({ id }) => id} empty="No invitation is open."
      columns=${[
        { name: 'Id', of: ({ id }) => html`<code>${id}</code>` },
        { name: 'Valid until', of: ({ expiresAt }) => day(expiresAt) },
        {
          name: 'Actions',
          of: ({ id }) => html`<${Action} kind="small" onAct=${async () => cancel(id)}>Cancel<//>`,
        },
      ]} />
  <//>`
}
