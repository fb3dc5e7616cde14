/** Lets the operator refuse packages that passed all checks, or have refused ones judged again. */
import type { Digest } from '../lib/bytes.ts'
import { InputError } from '../lib/errors.ts'
import { openManifest } from '../packaging/manifest.ts'
import type { Parts } from '../pipeline.ts'

/**
 * Stop using accepted packages that match a name, at once.
 * @throws InputError `not-found`; `disk-full`, `io` if the refusal could not be written down, so that it ends with this
 * run of the node unless a later upkeep writes it.
 */
export async function refuse(parts: Parts, name: string): Promise<Digest[]> {
  const ids = (await parts.verdicts.find(name, 'accepted')).map(({ id }) => id)
  await parts.accepted.refuse(ids)
  await parts.composer.recompose()
  await parts.accepted.flush()
  return ids
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
    parts.accepted.liftRefusal(id)
    parts.queue.add({ kind: 'manifest', ...openManifest(envelope), envelope })
    ids.push(id)
  }
  if (ids.length === 0) throw new InputError('not-found', `no refused package matches "${name}"`)
  await parts.queue.settled()
  return ids
}
