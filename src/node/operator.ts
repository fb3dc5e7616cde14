/** Lets the operator refuse packages, whether they are in use or not judged yet, or have refused ones judged again. */

import type { OpenedManifest } from '../acceptance/accept.ts'
import { readLoggedManifest } from '../acceptance/logged-manifest.ts'
import { isNamed } from '../acceptance/verdicts.ts'
import type { Digest } from '../lib/bytes.ts'
import { InputError } from '../lib/errors.ts'
import { openManifest } from '../packaging/manifest.ts'
import { queued } from '../pipeline/judging.ts'
import type { Parts } from '../pipeline/parts.ts'

/**
 * Stop using packages that match a name, at once. Packages without a verdict are refused too: their fetch ends, and
 * what was fetched is deleted.
 * @returns their ids.
 * @throws InputError `not-found`; `disk-full`, `io` if the refusal could not be written down, so that it ends with this
 * run of the node unless a later upkeep writes it.
 */
export async function refuse(parts: Parts, name: string): Promise<Digest[]> {
  const ids = (await parts.verdicts.find(name, 'accepted')).map(({ id }) => id)
  const unjudged = await findUnjudged(parts, name, [...queuedIds(parts), ...parts.standing.waiting()])
  const all = [...ids, ...unjudged.map(({ id }) => id)]
  if (all.length === 0) {
    throw new InputError('not-found', `no package that is in use or not judged yet matches "${name}"`)
  }
  const dropped = await parts.accepted.refuse(ids, unjudged)
  parts.queue.restart(all)
  if (dropped.length > 0) await parts.composer.recompose()
  await parts.accepted.flush()
  return all
}

/**
 * Judge refused packages that match a name again, by the same checks, and before all others. Packages without a verdict
 * get their turn at once.
 * @returns their ids. @throws InputError `not-found`.
 */
export async function reconsider(parts: Parts, name: string): Promise<Digest[]> {
  const packages = await findUnjudged(parts, name, queuedIds(parts))
  for (const { id } of await parts.verdicts.find(name, 'refused')) {
    const envelope = await parts.statements.envelope(id)
    if (envelope !== undefined) packages.push(openManifest(envelope, parts.statements.signers)) // Otherwise it became no statement.
  }
  if (packages.length === 0)
    throw new InputError('not-found', `no refused or waiting package matches "${name}"`)
  for (const opened of packages) {
    parts.accepted.liftRefusal(opened.id)
    parts.queue.add(queued(opened), true)
  }
  return packages.map(({ id }) => id)
}

function queuedIds({ states }: Parts): Digest[] {
  return states.list().map(([id]) => id)
}

/** Those of some packages without a verdict that match a name. */
async function findUnjudged(parts: Parts, name: string, ids: readonly Digest[]): Promise<OpenedManifest[]> {
  const found: OpenedManifest[] = []
  for (const id of ids) {
    const envelope = await parts.statements.envelope(id)
    const manifest = envelope === undefined ? undefined : readLoggedManifest(envelope)
    if (manifest === undefined) continue
    const institution = parts.membership.institutionOf(manifest.publisher)
    if (isNamed(name, { id, expert: manifest.expert.name, institution })) found.push({ id, manifest })
  }
  return found
}
