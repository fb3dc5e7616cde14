/**
 * The page Network: how each member is connected, what is fetched and sent, at which addresses this node is reached, and
 * how to name a new address of a member.
 */
import { useRef } from 'preact/hooks'
import { html } from './html.js'
import { run, useCommand } from './node.js'
import { shareDone } from './package-state.js'
import { Action, Badge, Field, Loading, LongTable, Meter, Panel, Table, usePage } from './parts.js'
import { ago, clock, duration, short, size } from './words.js'

export function Network() {
  const { role, say } = usePage()
  const { value, error, reload } = useCommand('members', {}, 5000)
  const address = useRef(null)
  if (value === undefined) return html`<${Loading} error=${error} />`
  const connect = async () => {
    const { institution, outcome, reason } = await run('connect', { address: address.current.value.trim() })
    if (outcome === 'connected') say(`connected to ${institution}`)
    else say(`not connected to ${institution}: ${reason ?? outcome}; the address is kept`, 'bad')
    await reload()
  }
  return html`
    <${Panel} title="Members">
      <${LongTable} caption="Members and how they are connected" rows=${value.members.filter(({ isSelf, revoked }) => !isSelf && !revoked)}
        keyOf=${({ peerId }) => peerId} textOf=${({ institution, peerId, address: at }) => `${institution} ${peerId} ${at}`}
        empty="There are no other members yet." columns=${COLUMNS} />
    <//>
    <${Fetching} />
    <${Sent} />
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

const COLUMNS = [
  { name: 'Institution', of: ({ institution }) => institution },
  {
    name: 'State',
    of: ({ connected }) =>
      html`<${Badge} kind=${connected ? 'good' : 'warn'}>${connected ? 'connected' : 'away'}<//>`,
  },
  {
    name: 'Path',
    of: ({ address, isInbound }) =>
      address === undefined
        ? ''
        : html`<code>${address.replace(/\/p2p\/[^/]+$/, '')}</code> <span class="quiet">${isInbound ? 'opened by it' : 'opened from here'}</span>`,
  },
  {
    name: 'Seen',
    of: ({ connected, connectedSince, lastSeenAt }) => {
      if (connected && connectedSince !== undefined) return `since ${clock(connectedSince * 1000)}`
      return lastSeenAt === undefined ? 'never' : ago(Date.now() / 1000 - lastSeenAt)
    },
  },
  { name: 'Peer id', of: ({ peerId }) => html`<code title=${peerId}>${short(peerId)}…</code>` },
]

/** Packages that this node fetches now, with their rate. */
function Fetching() {
  const { value } = useCommand('experts', {}, 1000)
  const before = useRef(new Map())
  const fetching = (value?.packages ?? []).filter(({ progress }) => progress?.kind === 'fetching')
  const now = performance.now()
  const rows = fetching.map((one) => {
    const { doneBytes, totalBytes } = one.progress
    const first = before.current.get(one.id) ?? { at: now, doneBytes }
    before.current.set(one.id, first)
    const seconds = (now - first.at) / 1000
    const rate = seconds > 0 ? (doneBytes - first.doneBytes) / seconds : 0
    return { ...one, rate, left: rate > 0 ? (totalBytes - doneBytes) / rate : undefined }
  })
  for (const id of before.current.keys()) if (!rows.some((row) => row.id === id)) before.current.delete(id)
  return html`<${Panel} title="Fetched now">
    <${Table} caption="Packages that are fetched now" rows=${rows} keyOf=${({ id }) => id} empty="Nothing is being fetched."
      columns=${[
        { name: 'Expert', of: ({ expert, institution }) => `${expert} of ${institution}` },
        {
          name: 'Progress',
          of: (one) =>
            html`${size(one.progress.doneBytes)} of ${size(one.progress.totalBytes)}<${Meter} share=${shareDone(one)} label=${`${one.expert} of ${one.institution}`} />`,
        },
        { name: 'Rate', isNumber: true, of: ({ rate }) => `${size(rate)}/s` },
        { name: 'Left', isNumber: true, of: ({ left }) => (left === undefined ? '' : duration(left)) },
      ]} />
  <//>`
}

/** Bytes that each member got from this node, from the ledger. */
function Sent() {
  const { about } = usePage()
  return about.commands.includes('egress') ? html`<${SentRows} />` : null
}

function SentRows() {
  const { value, error } = useCommand('egress')
  if (value === undefined) return html`<${Panel} title="Sent"><${Loading} error=${error} /><//>`
  const receivers = new Map()
  for (const { institution, to, what, kind, bytes } of value.items) {
    const name = institution ?? to
    const row = receivers.get(name) ?? { name, bytes: 0, files: [] }
    row.bytes += bytes
    if (kind === 'file') row.files.push(what)
    receivers.set(name, row)
  }
  return html`<${Panel} title="Sent" aside=${html`<a href="#/privacy">What it was</a>`}>
    <${LongTable} caption="Bytes sent, by receiver" rows=${[...receivers.values()].sort((a, b) => b.bytes - a.bytes)} keyOf=${({ name }) => name}
      textOf=${({ name }) => name} empty="Nothing yet." columns=${[
        { name: 'To', of: ({ name }) => name },
        { name: 'Files', of: ({ files }) => [...new Set(files)].join('; ') },
        { name: 'Bytes', isNumber: true, of: ({ bytes }) => size(bytes) },
      ]} />
  <//>`
}
