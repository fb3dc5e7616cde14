/** Keys and co-signed logs of the page Consortium. */
import { html } from './html.js'
import { useCommand } from './node.js'
import { Badge, Loading, LongTable, Panel } from './parts.js'
import { day, daysUntil, short } from './words.js'

/** The keys that act for this institution, and until when. */
export function Keys() {
  const { value, error } = useCommand('key show')
  if (value === undefined)
    return html`<${Panel} title="Keys of this institution"><${Loading} error=${error} /><//>`
  const { institutionKey, institutionKeyFile, nodeKey, nodeKeyExpiresAt, scopes, next } = value
  const { isRuling, homeKey, repair } = value
  return html`<${Panel} title="Keys of this institution">
    ${!isRuling && html`<p class="alert" role="alert">The key of this node, <code>${short(homeKey)}…</code>, does not act for this institution any more. Run on its machine: <code>${repair}</code></p>`}
    <dl class="facts">
      <div><dt>Institution key</dt><dd><code title=${institutionKey}>${short(institutionKey)}…</code> ${institutionKeyFile === null ? 'in the home folder' : `in ${institutionKeyFile}`}</dd></div>
      <div><dt>Node key</dt><dd>${
        nodeKey === null
          ? 'none: the institution key signs'
          : html`<code title=${nodeKey}>${short(nodeKey)}…</code> until ${day(nodeKeyExpiresAt)} (${daysUntil(nodeKeyExpiresAt)} days), for ${scopes.join(', ')}`
      }</dd></div>
      <div><dt>Next institution key</dt><dd>${next === null ? 'none committed: if this one is lost, only the other members can restore the seat' : html`committed, <code title=${next}>${short(next)}…</code>`}</dd></div>
    </dl>
  <//>`
}

/** What the members have cosigned of each other's logs. */
export function Logs() {
  const { value, error } = useCommand('log')
  if (value === undefined) return html`<${Panel} title="Co-signed logs"><${Loading} error=${error} /><//>`
  const { needed, logs } = value
  return html`
    ${logs
      .filter(({ contradiction }) => contradiction !== undefined)
      .map(
        ({ institution, peerId }) =>
          html`<p class="alert" role="alert" key=${peerId}>${institution} has signed checkpoints of two different logs. None of what it signs can be trusted until it has explained this.</p>`,
      )}
    <${Panel} title="Co-signed logs">
      <p class="quiet">${
        needed === 0
          ? 'No other member can cosign, so every statement is final at once.'
          : `A statement is final when ${needed === 1 ? 'one other member has' : `${needed} other members have`} cosigned a checkpoint that covers it. From then on its publisher cannot change or deny it.`
      }</p>
      <${LongTable} caption="Logs of the members" rows=${logs} keyOf=${({ peerId }) => peerId} textOf=${({ institution }) => institution}
        columns=${[
          { name: 'Institution', of: ({ institution }) => institution },
          { name: 'Statements', isNumber: true, of: ({ statements }) => statements },
          { name: 'Final', isNumber: true, of: ({ final }) => final },
          {
            name: 'State',
            of: ({ statements, final }) =>
              html`<${Badge} kind=${final >= statements ? 'good' : 'busy'}>${final >= statements ? 'all final' : `${statements - final} not final yet`}<//>`,
          },
          { name: 'Checkpoint', isNumber: true, of: ({ checkpointSize }) => checkpointSize ?? 'none' },
          { name: 'Cosigned by', of: ({ cosigners }) => cosigners.join(', ') || 'nobody' },
        ]} />
    <//>`
}
