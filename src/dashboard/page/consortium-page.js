/** The page Consortium: members, requests, invitations, and how they are decided. */
import { useState } from 'preact/hooks'
import { html } from './html.js'
import { run, useCommand } from './node.js'
import { Action, Badge, Confirm, Loading, Panel, Table, usePage } from './parts.js'
import { day, daysUntil, short } from './words.js'

export function Consortium() {
  const { say } = usePage()
  const { value, error, reload } = useCommand('members')
  const [question, ask] = useState()
  const [invite, setInvite] = useState()
  if (value === undefined) return html`<${Loading} error=${error} />`
  const act = async (command, request, words) => {
    const result = await run(command, request)
    if (words !== undefined) say(words)
    await reload()
    return result
  }
  const approve = async ({ institution, peerId }) => {
    const { notApproved = [] } = await act('approve', { who: peerId })
    if (notApproved.length === 0) say(`${institution} is approved`)
    for (const { reason } of notApproved) say(`not approved: ${reason}`, 'bad')
  }
  const revoke = (member) =>
    ask({
      title: `End the membership of ${member.institution}?`,
      text: [
        'It can publish nothing any more, and this cannot be undone: it could only join again under a new key.',
        'Its experts up to now stay in use. The command line ends them too: flexmesh revoke NAME --valid-through 0',
      ],
      action: 'End the membership',
      run: () =>
        act('revoke', { who: member.peerId }, `${member.institution} is revoked`).catch((e) =>
          say(e.message, 'bad'),
        ),
    })
  return html`
    <p class="quiet">${value.consortium}, roster version ${value.rosterVersion}, valid until ${day(value.rosterExpiresAt)}${' '}(${daysUntil(value.rosterExpiresAt)} days)${' '}<${Action} kind="small" onAct=${() => act('renew', {}, 'the membership of everyone is renewed')}>Renew<//></p>
    <${Panel} title="Applications">
      <${Table} caption="Institutions that apply for membership" rows=${value.requests} keyOf=${({ peerId }) => peerId}
        empty="Nobody applies for membership now."
        columns=${[
          { name: 'Institution', of: ({ institution }) => institution },
          { name: 'Key', of: ({ peerId }) => html`<code title=${peerId}>${short(peerId)}…</code>` },
          { name: 'Obstacle', of: ({ obstacle }) => obstacle ?? '' },
          {
            name: 'Decision',
            of: (request) => html`<span class="buttons">
              <${Action} kind="primary" isDisabled=${request.obstacle !== undefined} onAct=${() => approve(request)}>Approve<//>
              <${Action} onAct=${() => act('reject', { who: request.peerId }, `the request of ${request.institution} is dismissed`)}>Reject<//></span>`,
          },
        ]} />
    <//>
    <${Panel} title="Members">
      <${Table} caption="Members of the consortium" rows=${value.members} keyOf=${({ peerId }) => peerId}
        columns=${[
          {
            name: 'Institution',
            of: ({ institution, isSelf }) =>
              html`${institution}${isSelf ? html` <span class="quiet">this node</span>` : ''}`,
          },
          { name: 'Role', of: ({ role }) => role },
          {
            name: 'State',
            of: ({ revoked, connected }) =>
              html`<${Badge} kind=${revoked ? 'plain' : connected ? 'good' : 'warn'}>${revoked ? 'revoked' : connected ? 'connected' : 'away'}<//>`,
          },
          { name: 'Key', of: ({ peerId }) => html`<code title=${peerId}>${short(peerId)}…</code>` },
          {
            name: 'Actions',
            of: (member) =>
              member.revoked || member.isSelf
                ? ''
                : html`<${Action} kind="small" onAct=${async () => revoke(member)}>Revoke<//>`,
          },
        ]} />
    <//>
    <${Panel} title="Invitations" aside=${html`<${Action} onAct=${async () => {
      setInvite(await run('invite'))
      await reload()
    }}>New invitation<//>`}>
      ${
        invite !== undefined &&
        html`<div class="secret" role="status"><p>Send this line over a channel that both of you trust. It admits one institution and is shown once.</p>
          <pre><code>${invite.invite}</code></pre>
          <p class="buttons"><button type="button" onClick=${() => navigator.clipboard.writeText(invite.invite).then(() => say('copied'))}>Copy</button>
          <button type="button" onClick=${() => setInvite(undefined)}>Hide</button></p></div>`
      }
      <${Table} caption="Open invitations" rows=${value.invitations} keyOf=${({ id }) => id} empty="No invitation is open."
        columns=${[
          { name: 'Id', of: ({ id }) => html`<code>${id}</code>` },
          { name: 'Valid until', of: ({ expiresAt }) => day(expiresAt) },
          {
            name: 'Actions',
            of: ({ id }) =>
              html`<${Action} kind="small" onAct=${() => act('invite', { cancel: id }, `invitation ${id} is cancelled`)}>Cancel<//>`,
          },
        ]} />
    <//>
    <${Confirm} question=${question} onClose=${() => ask(undefined)} />`
}
