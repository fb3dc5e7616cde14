/**
 * The files of an institution key, which may lie outside of the home folder, for example on a stick: FILE holds the key
 * that rules the seat, FILE.next the key that the seat has committed as the next one. A rotation writes the key after
 * that to FILE.prepared before anything is signed, and moves the files once the rotation is logged, so that a process
 * that ends at any moment loses no key. Knows nothing about seats and statements.
 */
import { rename } from 'node:fs/promises'
import { dirname } from 'node:path'
import { InputError } from '../lib/errors.ts'
import { mapDiskErrors, pathExists, syncDir } from '../lib/files.ts'
import { loadIdentity, type Protection, readKeyId, replaceIdentity } from './key-file.ts'
import { createIdentity, type Identity, type PeerIdString } from './keys.ts'

interface KeyFiles {
  readonly current: string
  readonly next: string
  readonly prepared: string
  /** The latest key that a rotation has replaced. It has no power. */
  readonly replaced: string
}

function filesOf(file: string): KeyFiles {
  return { current: file, next: `${file}.next`, prepared: `${file}.prepared`, replaced: `${file}.replaced` }
}

/**
 * The institution key in FILE and the key after it. Creates the keys that do not exist.
 * @param first the key to write to FILE if it does not exist; default: a new key.
 * @throws InputError `wrong-passphrase`, `permissions`, `usage`, `disk-full`.
 */
export async function openOrCreateInstitutionKey(
  file: string,
  protection: Protection,
  first?: Identity,
): Promise<{ key: Identity; next: Identity }> {
  const { current, next } = filesOf(file)
  // The file that the user names comes last, so that it exists only if the other one does.
  const after = await openOrCreate(next, protection)
  return { key: await openOrCreate(current, protection, first), next: after }
}

/**
 * The key that rules the seat, from whichever of the files holds it: a rotation may have been interrupted.
 * @throws InputError `mismatch` if none of the files holds it; as `loadIdentity`.
 */
export async function loadInstitutionKey(
  file: string,
  protection: Protection,
  wanted: PeerIdString,
): Promise<Identity> {
  const { current, next, prepared } = filesOf(file)
  for (const path of [current, next, prepared]) {
    if ((await idIn(path)) === wanted) return loadIdentity(path, passphraseOf(protection))
  }
  throw new InputError(
    'mismatch',
    `${file}: expected the institution key ${wanted}, which rules this seat, got ${(await idIn(current)) ?? 'no file'}; name the file of this key with --institution-key`,
  )
}

/** Peer id of the key in FILE; undefined if the file does not exist. Needs no passphrase. */
export function institutionKeyId(file: string): Promise<PeerIdString | undefined> {
  return idIn(filesOf(file).current)
}

/** Peer id of the key in FILE.next; undefined if the file does not exist. Needs no passphrase. */
export function nextInstitutionKeyId(file: string): Promise<PeerIdString | undefined> {
  return idIn(filesOf(file).next)
}

/**
 * The keys of a rotation: the committed next key, and the one that it commits in turn, which is on disk when this
 * resolves. A repeated call returns the same keys.
 * @throws InputError `not-found` if FILE.next does not exist; as `loadIdentity`.
 */
export async function prepareRotation(
  file: string,
  protection: Protection,
): Promise<{ key: Identity; next: Identity }> {
  const { next, prepared } = filesOf(file)
  if (!(await pathExists(next))) {
    throw new InputError(
      'not-found',
      `${next} does not exist; it holds the next key, without which the institution cannot rotate by itself. The other members can restore the seat with "flexmesh propose rotate"`,
    )
  }
  const key = await loadIdentity(next, passphraseOf(protection))
  return { key, next: await openOrCreate(prepared, protection) }
}

/** Move the files after a rotation to `ruling` was logged. Does nothing if they are in their places already. */
export async function completeRotation(file: string, ruling: PeerIdString): Promise<void> {
  const { current, next, prepared, replaced } = filesOf(file)
  if ((await idIn(current)) !== ruling) {
    if ((await idIn(next)) !== ruling) return
    if (await pathExists(current)) await move(current, replaced)
    await move(next, current)
  }
  if ((await pathExists(prepared)) && !(await pathExists(next))) await move(prepared, next)
}

async function move(from: string, to: string): Promise<void> {
  await mapDiskErrors(from, async () => {
    await rename(from, to)
    await syncDir(dirname(to))
  })
}

async function idIn(path: string): Promise<PeerIdString | undefined> {
  return (await pathExists(path)) ? readKeyId(path) : undefined
}

async function openOrCreate(path: string, protection: Protection, key?: Identity): Promise<Identity> {
  if (await pathExists(path)) return loadIdentity(path, passphraseOf(protection))
  const created = key ?? createIdentity()
  await replaceIdentity(path, created, protection)
  return created
}

function passphraseOf(protection: Protection): string | undefined {
  return 'passphrase' in protection ? protection.passphrase : undefined
}
