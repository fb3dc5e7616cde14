/**
 * The files of a Hugging Face folder other than its weights: config.json, tokenizer.json, and replay.*, the public
 * text that owners mix into training. Knows no architecture.
 */
import { readdir } from 'node:fs/promises'
import { extname, join } from 'node:path'
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

/** Path of the replay text in a model folder, if it has one. */
export async function findReplay(dir: string): Promise<string | undefined> {
  const name = (await mapDiskErrors(dir, () => readdir(dir))).sort().find((file) => REPLAY.test(file))
  return name === undefined ? undefined : join(dir, name)
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
  return readFileBounded(join(dir, name), MAX_JSON_BYTES)
}
