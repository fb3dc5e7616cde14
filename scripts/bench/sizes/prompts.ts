/** Prompts of real text, each new to a server that caches earlier ones. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Tokenizer } from '../../../src/data/tokenizer.ts'
import { mulberry32 } from '../../../src/lib/random.ts'
import { TEXT } from './command-rows.ts'

const PROMPT_TOKENS = 128
const SEED = 1
const FILES = 4

/** Returns a function that draws token ids of a text whose tokens are exactly these. */
export function promptSource(tokenizer: Tokenizer, tokens = PROMPT_TOKENS): () => Int32Array {
  const random = mulberry32(SEED)
  const names = readdirSync(TEXT).sort().slice(0, FILES)
  const ids = tokenizer.encode(names.map((name) => readFileSync(join(TEXT, name), 'utf8')).join('\n'))
  return () => {
    for (;;) {
      const from = Math.floor(random() * (ids.length - tokens))
      const prompt = ids.slice(from, from + tokens)
      // A text that begins within a word may have other tokens.
      const again = tokenizer.encode(tokenizer.decode(prompt))
      if (again.length === tokens && again.every((id, i) => id === prompt[i])) return Int32Array.from(prompt)
    }
  }
}
