/**
 * The files of a Hugging Face folder other than its weights: config.json, tokenizer.json, and replay.*, the public
 * text that owners mix into training. Does not know model architectures.
 */
import { readdir, realpath } from 'node:fs/promises'
import { basename, dirname, extname, join, sep } from 'node:path'
import { fromUtf8 } from '../lib/bytes.ts'
import { InputError } from '../lib/errors.ts'
import { mapDiskErrors, pathExists, readFileBounded } from '../lib/files.ts'

export const CONFIG_FILE = 'config.json'
export const TOKENIZER_FILE = 'tokenizer.json'

const MAX_JSON_BYTES = 64 * 2 ** 20
const REPLAY = /^replay\.(jsonl|txt|md|csv|parquet)$/

/** The parsed config.json, not yet checked. @throws InputError `not-a-model`. */
export async function readConfig(dir: string): Promise<unknown> {
  const bytes = await readRequired(dir, CONFIG_FILE)
  try {
    return JSON.parse(fromUtf8(bytes))
  } catch (cause) {
    throw new InputError('not-a-model', `${join(dir, CONFIG_FILE)}: expected JSON`, {}, cause)
  }
}

/** The bytes of tokenizer.json. @throws InputError `not-a-model`. */
export function readTokenizer(dir: string): Promise<Uint8Array> {
  return readRequired(dir, TOKENIZER_FILE)
}

/**
 * Path of the replay text in a model folder, if it has one.
 * @throws InputError `not-a-model` if there are several, or for a link that leaves the folder: members receive this
 * file, so a link in a downloaded folder must not choose it.
 */
export async function findReplay(dir: string): Promise<string | undefined> {
  const names = (await mapDiskErrors(dir, () => readdir(dir))).filter((file) => REPLAY.test(file)).sort()
  const [name, ...others] = names
  if (name === undefined) return undefined
  if (others.length > 0) {
    throw new InputError('not-a-model', `${dir} has ${names.join(' and ')}; keep one of them`)
  }
  const [root, target] = await realPaths(dir, name)
  if (!target.startsWith(root + sep)) throw leavesFolder(join(dir, name), target)
  return join(dir, name)
}

/**
 * Accept a file of a model folder that is no link, or a link within the folder or within the cache of Hugging Face,
 * where `snapshots/REVISION/NAME` is a link to `blobs/DIGEST`.
 * @throws InputError `not-a-model` for a link to any other place, `not-found`.
 */
export async function checkModelLink(dir: string, name: string): Promise<void> {
  const [root, target] = await realPaths(dir, name)
  if (target.startsWith(root + sep)) return
  const snapshots = dirname(root)
  const blobs = join(dirname(snapshots), 'blobs')
  if (basename(snapshots) === 'snapshots' && dirname(target) === blobs) return
  throw leavesFolder(join(dir, name), target)
}

async function realPaths(dir: string, name: string): Promise<[root: string, target: string]> {
  const path = join(dir, name)
  return mapDiskErrors(path, () => Promise.all([realpath(dir), realpath(path)]))
}

function leavesFolder(path: string, target: string): InputError {
  return new InputError(
    'not-a-model',
    `${path} is a link that leaves the folder, to ${target}; replace the link by a copy of the file if it belongs to the model`,
  )
}

/**
 * File name for the replay text in a model folder.
 * @throws InputError `usage` for a kind of file that is not read.
 */
export function replayName(path: string): string {
  const name = `replay${extname(path).toLowerCase()}`
  if (!REPLAY.test(name)) {
    throw new InputError(
      'usage',
      `--replay: expected a .jsonl, .txt, .md, .csv or .parquet file, got ${path}`,
    )
  }
  return name
}

async function readRequired(dir: string, name: string): Promise<Uint8Array> {
  if (!(await pathExists(join(dir, name)))) {
    throw new InputError(
      'not-a-model',
      `${dir} has no ${name}; give a Hugging Face model folder with ${name}`,
    )
  }
  await checkModelLink(dir, name)
  return readFileBounded(join(dir, name), MAX_JSON_BYTES)
}
