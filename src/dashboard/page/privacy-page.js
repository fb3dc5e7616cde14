/**
 * The page Privacy: what the texts have spent, what has left this node, and which private copies lie on its disk. A panel
 * is shown if the node has the command that it shows.
 */
import { useState } from 'preact/hooks'
import { html } from './html.js'
import { runWorded, useCommand, useRead } from './node.js'
import { Action, Loading, Panel, Table, usePage } from './parts.js'
import { day, size } from './words.js'

export function Privacy() {
  const { about } = usePage()
  const has = (command) => about.commands.includes(command)
  return html`
    ${has('privacy') && html`<${Words} title="What the texts have spent" command="privacy" />`}
    ${has('egress') && html`<${Egress} />`}
    ${has('data') && html`<${Words} title="Private copies on this disk" command="data" />`}`
}

/** The result of a command in its own words. */
function Words({ title, command }) {
  const { value, error } = useRead(() => runWorded(command), [command])
  return html`<${Panel} title=${title}>${
    value === undefined
      ? html`<${Loading} error=${error} />`
      : html`<pre class="words">${value.words.join('\n')}</pre>`
  }<//>`
}

/** Kinds that carry nothing of the node's: what libp2p needs for itself. */
const OVERHEAD = ['transport', 'negotiation', 'identify', 'ping', 'gossip']

/** What left the node, by kind and receiver, from the ledger. */
function Egress() {
  const { say } = usePage()
  const { value, error } = useCommand('egress')
  const [verified, setVerified] = useState()
  if (value === undefined)
    return html`<${Panel} title="What left this node"><${Loading} error=${error} /><//>`
  const own = value.items.filter(({ kind }) => !OVERHEAD.includes(kind))
  const overhead = value.items.filter(({ kind }) => OVERHEAD.includes(kind))
  const sum = (items) => items.reduce((total, { bytes }) => total + bytes, 0)
  const verify = async () => {
    const { words } = await runWorded('egress', { action: 'verify' })
    setVerified(words)
    say('the ledger was verified')
  }
  return html`<${Panel} title="What left this node" aside=${html`<${Action} onAct=${verify}>Verify the ledger<//>`}>
    ${verified && html`<pre class="words" role="status">${verified.join('\n')}</pre>`}
    <${Table} caption="What left this node, by kind and receiver" rows=${own} keyOf=${({ kind, to, file }) => `${kind} ${to} ${file}`} columns=${[
      {
        name: 'What',
        of: ({ kind, name }) => `${kind.replaceAll('-', ' ')}${name === undefined ? '' : ` ${name}`}`,
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
