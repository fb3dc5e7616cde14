/** The API key of a home folder: created on first use, readable by the owner only. Knows nothing about HTTP. */
import { randomBytes } from 'node:crypto'
import { link, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { toHex } from '../lib/bytes.ts'
import { hasErrno, InputError } from '../lib/errors.ts'
import { mapDiskErrors, pathExists, readFileBounded, syncDir, writeFileAtomic } from '../lib/files.ts'

const KEY_BYTES = 24
const MAX_FILE_BYTES = 256

/** The key in the file `path`. @throws InputError `empty`, `disk-full`, `permissions`. */
export async function loadApiKey(path: string): Promise<string> {
  if (!(await pathExists(path))) await createKeyFile(path)
  const bytes = await readFileBounded(path, MAX_FILE_BYTES)
  const key = Buffer.from(bytes).toString('latin1').trim()
  if (/^[\x21-\x7e]+$/.test(key)) return key
  throw new InputError(
    key === '' ? 'empty' : 'usage',
    `${path}: expected an API key of ASCII characters without spaces, got ${key === '' ? 'an empty file' : 'other bytes'}; delete it to get a new key`,
  )
}

/** If several callers create the file at the same time, one of them does and the others leave it unchanged. */
async function createKeyFile(path: string): Promise<void> {
  const temporary = `${path}.${toHex(randomBytes(8))}.tmp`
  await writeFileAtomic(temporary, `fm-${toHex(randomBytes(KEY_BYTES))}\n`)
  try {
    // A link, unlike a rename, fails if the file exists, and the file has its whole content from the start.
    await mapDiskErrors(path, () => link(temporary, path))
    await syncDir(dirname(path))
  } catch (error) {
    if (!hasErrno(error, 'EEXIST')) throw error
  } finally {
    await rm(temporary, { force: true })
  }
}
