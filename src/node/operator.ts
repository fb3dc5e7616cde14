/** Decisions of the operator about packages, which override the checks. */
import type { Digest } from '../lib/bytes.ts'
import { InputError } from '../lib/errors.ts'
import { openManifest } from '../packaging/manifest.ts'
import type { Parts } from '../pipeline.ts'

/** Stop using the accepted packages that match a name. @returns their ids. @throws InputError `not-found`. */
export async function refuse(parts: Parts, name: string): Promise<Digest[]> {
  const found = await parts.verdicts.find(name, 'accepted')
  const reason = 'the operator of this node refused it'
  for (const { id } of found) {
    await parts.accepted.overrule(id, { check: 'operator', code: 'refused-by-operator', reason })
  }
  await parts.composer.recompose()
  return found.map(({ id }) => id)
}

/**
 * Judge the refused packages that match a name again, by the same checks.
 * @returns their ids. @throws InputError `not-found`.
 */
export async function reconsider(parts: Parts, name: string): Promise<Digest[]> {
  const ids: Digest[] = []
  for (const { id } of await parts.verdicts.find(name, 'refused')) {
    const envelope = await parts.statements.envelope(id)
    if (envelope === undefined) continue // It was an envelope that became no statement.
    parts.queue.add({ kind: 'manifest', ...openManifest(envelope), envelope })
    ids.push(id)
  }
  if (ids.length === 0) throw new InputError('not-found', `no refused package matches "${name}"`)
  await parts.queue.settled()
  return ids
}
