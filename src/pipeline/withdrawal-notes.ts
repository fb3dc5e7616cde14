/**
 * What this node holds of the packages that a withdrawal names, written down before the withdrawal is carried out, so that
 * its receipt can state what became of them. Whatever ends the process in between, the next start has the note. Carries
 * out nothing and signs nothing.
 */
import { FILE_CHECK, MEASUREMENT_CHECKS } from '../acceptance/accept.ts'
import { readLoggedManifest } from '../acceptance/logged-manifest.ts'
import { type Digest, fromUtf8, utf8 } from '../lib/bytes.ts'
import type { Manifest } from '../packaging/manifest.ts'
import type { PackageReceipt } from '../statements/receipt.ts'
import { answers, type KnownWithdrawal } from '../statements/withdrawal-ledger.ts'
import type { Parts } from './parts.ts'

/** What this node held when it learned of a withdrawal. */
interface Note {
  /** Unix seconds. */
  readonly at: number
  /** The most that this node did with each package, by package id. */
  readonly held: Readonly<Record<Digest, PackageReceipt['held']>>
  /** Compositions with one of the packages that answered: of this node, and of a server that it stands in front of. */
  readonly composition?: Digest
  readonly upstream?: Digest
}

/** Write down what this node holds of the packages that a withdrawal names, before it is carried out. */
export async function noteWithdrawal(parts: Parts, withdrawal: KnownWithdrawal): Promise<void> {
  const { membership, accepted, composer, upstream, catalogue } = parts
  if (!answers(membership.seat, withdrawal) || withdrawal.reason === 'superseded') return
  if ((await readNote(parts, withdrawal.id)) !== undefined) return
  const held: Record<Digest, PackageReceipt['held']> = {}
  for (const { id, manifest } of await withdrawnPackages(parts, withdrawal)) {
    held[id] = await heldNow(parts, id, manifest)
  }
  const ids = Object.keys(held) as Digest[]
  const stopped = upstream.answersWith(ids, (id) => accepted.has(id))
  const note: Note = {
    at: parts.now(),
    held,
    ...(ids.some((id) => composer.serves(id)) ? { composition: composer.served.composition.digest } : {}),
    ...(stopped === undefined ? {} : { upstream: stopped }),
  }
  await catalogue.put('withdrawing', withdrawal.id, utf8(JSON.stringify(note)))
}

/** The note about a withdrawal; undefined once it was answered. */
export async function readNote({ catalogue }: Parts, id: Digest): Promise<Note | undefined> {
  const stored = await catalogue.get('withdrawing', id)
  return stored === undefined ? undefined : (JSON.parse(fromUtf8(stored)) as Note)
}

/** The packages of its publisher that a withdrawal names and whose manifests are in the log. */
export async function withdrawnPackages(
  { statements }: Parts,
  { publisher, manifests }: KnownWithdrawal,
): Promise<{ id: Digest; manifest: Manifest }[]> {
  const packages: { id: Digest; manifest: Manifest }[] = []
  for (const id of manifests) {
    const envelope = await statements.envelope(id)
    const manifest = envelope === undefined ? undefined : readLoggedManifest(envelope)
    if (manifest?.publisher === publisher) packages.push({ id, manifest })
  }
  return packages
}

/** The most that this node has done with a package so far. Its verdict tells after the package was withdrawn, too. */
export async function heldNow(
  parts: Parts,
  id: Digest,
  { files }: Manifest,
): Promise<PackageReceipt['held']> {
  const { accepted, verdicts, blobs } = parts
  const verdict = await verdicts.get(id)
  const last = MEASUREMENT_CHECKS.at(-1)?.id ?? FILE_CHECK
  if (accepted.has(id) || verdict?.passed.includes(last) === true) return 'used'
  if (verdict?.passed.includes(FILE_CHECK) === true) return 'stored'
  for (const file of files) {
    if ((await blobs.has(file.sha256)) || (await blobs.partialBytes(file)) > 0) return 'stored'
  }
  return 'never'
}
