/** The page Privacy: what the texts have spent, and what has left this node. */
import { html } from './html.js'
import { useCommand } from './node.js'
import { Loading, Panel } from './parts.js'

export function Privacy() {
  const { value, error } = useCommand('egress')
  if (value === undefined) return html`<${Loading} error=${error} />`
  return html`<${Panel} title="What left this node"><pre>${JSON.stringify(value, null, 2)}</pre><//>`
}
