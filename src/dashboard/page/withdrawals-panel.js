/** Withdrawn experts of the page Experts: who has answered with a receipt, who is waited for, and what was exported. */
import { html } from './html.js'
import { useCommand } from './node.js'
import { Badge, Loading, Panel, Table } from './parts.js'
import { ago, day, short } from './words.js'

const STATES = {
  dropped: { kind: 'good', words: 'dropped it' },
  never: { kind: 'plain', words: 'never had it' },
  keeps: { kind: 'bad', words: 'still has its file' },
  waiting: { kind: 'warn', words: 'has not answered' },
}

export function Withdrawals() {
  const { value, error } = useCommand('withdrawals', {}, 5000)
  if (value === undefined) return error === undefined ? null : html`<${Loading} error=${error} />`
  const { withdrawals, now } = value
  if (withdrawals.length === 0) return null
  return html`<${Panel} title="Withdrawn">${withdrawals.map(
    (one) => html`<${Withdrawal} key=${one.id} withdrawal=${one} now=${now} />`,
  )}<//>`
}

function Withdrawal({ withdrawal, now }) {
  const { packages, institution, reason, issuedAt, members } = withdrawal
  const name = [...new Set(packages.map(({ expert }) => expert))].join(', ')
  const answered = members.filter(({ state }) => state !== 'waiting').length
  return html`<h3>${name} of ${institution}, ${reason === 'quorum' ? 'by a quorum, ' : ''}${day(issuedAt)}</h3>
    <p>${answered} of ${members.length} have answered${
      answered < members.length
        ? html`; waiting for ${members
            .filter(({ state }) => state === 'waiting')
            .map((one) => one.institution)
            .join(', ')}`
        : ''
    }.</p>
    <${Table} caption=${`Receipts for ${name} of ${institution}`} rows=${members} keyOf=${({ peerId }) => peerId} empty="No other member has to answer."
      columns=${[
        {
          name: 'Member',
          of: ({ institution: member, isSelf }) =>
            html`${member}${isSelf ? html` <span class="quiet">this node</span>` : ''}`,
        },
        {
          name: 'State',
          of: ({ state }) => html`<${Badge} kind=${STATES[state].kind}>${STATES[state].words}<//>`,
        },
        {
          name: 'Receipt',
          of: ({ answeredAt, answer }) =>
            answeredAt === undefined
              ? ''
              : `${new Date(answeredAt * 1000).toLocaleString()}${effects(answer)}`,
        },
        {
          name: 'Seen',
          of: ({ isConnected, isSelf, lastSeenAt }) =>
            isConnected || isSelf ? 'now' : lastSeenAt === undefined ? 'never' : ago(now - lastSeenAt),
        },
      ]} />`
}

/** What a receipt states beside the deletion. */
function effects({ compositions, exports }) {
  return [
    ...compositions.map(({ before }) => `; stopped composition ${short(before)}`),
    ...(exports.length === 0
      ? []
      : [`; marked ${exports.filter(({ marked }) => marked).length} of ${exports.length} exports`]),
  ].join('')
}

/** Exports of this node with experts that were withdrawn since. */
export function WithdrawnExports({ exports }) {
  return html`<div class="alert" role="alert"><p>Exports of this node hold experts that were withdrawn. Stop using them, and export again:</p>
    <ul>${exports.map(({ directory, withdrawn }) => html`<li key=${directory}><code>${directory}</code>: ${withdrawn.map(({ institution, name }) => `${name} of ${institution}`).join(', ')}</li>`)}</ul></div>`
}
