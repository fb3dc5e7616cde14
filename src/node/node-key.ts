/**
 * The node key of a home whose institution key lies elsewhere: the key that the home uses, a new one that waits beside
 * it until the seat has named it, and where the institution key lies. Signs nothing.
 */

import { rename } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Membership } from '../consortium/membership.ts'
import { loadIdentity, type Protection, readKeyId, replaceIdentity } from '../identity/key-file.ts'
import { createIdentity, type Identity, type PeerIdString } from '../identity/keys.ts'
import { fromUtf8 } from '../lib/bytes.ts'
import { ownCommand } from '../lib/command-line.ts'
import { FormatError, InputError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { mapDiskErrors, pathExists, readFileBounded, syncDir, writeFileAtomic } from '../lib/files.ts'
import type { HomePaths } from '../store/home.ts'

const MAX_BYTES = 8192
const MAX_PATH = 4096

/** Remember where the institution key lies. */
export async function saveInstitutionFile({ institution }: HomePaths, file: string): Promise<void> {
  await writeFileAtomic(institution, `${JSON.stringify({ file })}\n`)
}

/**
 * Where the institution key lies; undefined if the home holds it.
 * @throws InputError `usage` for a file that cannot be read.
 */
export async function institutionFileOf({ institution }: HomePaths): Promise<string | undefined> {
  if (!(await pathExists(institution))) return undefined
  try {
    const fields = new Fields(
      JSON.parse(fromUtf8(await readFileBounded(institution, MAX_BYTES))),
      'institution',
    )
    const file = fields.text('file', MAX_PATH)
    fields.end()
    return file
  } catch (error) {
    if (!(error instanceof FormatError || error instanceof SyntaxError)) throw error
    throw new InputError('usage', `${institution}: ${error.message}; correct or remove the file`, {}, error)
  }
}

/** The new node key of a home. A repeated call returns the same key until the home uses it. */
export async function prepareNodeKey({ newKey }: HomePaths, protection: Protection): Promise<Identity> {
  if (await pathExists(newKey)) {
    return loadIdentity(newKey, 'passphrase' in protection ? protection.passphrase : undefined)
  }
  const identity = createIdentity()
  await replaceIdentity(newKey, identity, protection)
  return identity
}

/** Let the home use its new node key, if that is the key of the seat's node now. */
export async function useNewNodeKey({ key, newKey }: HomePaths, nodeKey: PeerIdString): Promise<void> {
  if (!(await pathExists(newKey)) || (await readKeyId(newKey)) !== nodeKey) return
  await mapDiskErrors(newKey, async () => {
    await rename(newKey, key)
    await syncDir(dirname(key))
  })
}

/**
 * @throws InputError `interrupted` if the seat has named the new node key of the home, but it is not certain that a
 * member knows that: the home uses it only after `flexmesh key delegate` has ended.
 */
export async function checkNoPendingKey({ newKey }: HomePaths, { keys }: Membership): Promise<void> {
  if (!(await pathExists(newKey)) || keys.seatOf(await readKeyId(newKey)) === undefined) return
  throw new InputError(
    'interrupted',
    `the last "flexmesh key delegate" or "flexmesh key rotate" of this home was interrupted after it had signed; run ${ownCommand('key', 'delegate')}`,
  )
}
