/** The page Network: which members are reached, at which addresses this node is reached, and how to name a new one. */
import { useRef } from 'preact/hooks'
import { html } from './html.js'
import { run, useCommand } from './node.js'
import { Action, Badge, Field, Loading, Panel, Table, usePage } from './parts.js'
import { short } from './words.js'

export function Network() {
  const { role, say } = usePage()
  const { value, error, reload } = useCommand('members', {}, 5000)
  const address = useRef()
  if (value === undefined) return html`<${Loading} error=${error} />`
  const connect = async () => {
    const { institution, outcome, reason } = await run('connect', { address: address.current.value.trim() })
    if (outcome === 'connected') say(`connected to ${institution}`)
    else say(`not connected to ${institution}: ${reason ?? outcome}; the address is kept`, 'bad')
    await reload()
  }
  return html`
    <${Panel} title="Members">
      <${Table} caption="Members and whether they are connected" rows=${value.members.filter(({ isSelf, revoked }) => !isSelf && !revoked)}
        keyOf=${({ peerId }) => peerId} empty="There are no other members yet." columns=${[
          { name: 'Institution', of: ({ institution }) => institution },
          {
            name: 'State',
            of: ({ connected }) =>
              html`<${Badge} kind=${connected ? 'good' : 'warn'}>${connected ? 'connected' : 'away'}<//>`,
          },
          { name: 'Peer id', of: ({ peerId }) => html`<code title=${peerId}>${short(peerId)}…</code>` },
        ]} />
    <//>
    <${Panel} title="This node">
      <p>Others reach it at</p>
      <ul class="list">${value.addresses.map((one) => html`<li key=${one}><code>${one}</code></li>`)}</ul>
      ${
        role === 'operator' &&
        html`<div class="row"><${Field} label="Address of a member that has moved" hint="as its own page shows it"><input ref=${address} placeholder="/ip4/192.0.2.1/tcp/4001/p2p/12D3Koo…" /><//>
          <${Action} onAct=${connect}>Connect<//></div>`
      }
    <//>`
}
