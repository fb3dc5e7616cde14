/** Results of Hugging Face's library for variants of a tokenizer, as scripts/parity/tokenizer_variants.py writes them. */
import { readFile } from 'node:fs/promises'
import { Tokenizer } from '../../src/data/tokenizer.ts'
import { utf8 } from '../../src/lib/bytes.ts'

/** A text, its tokens, and its tokens if names of special tokens count (absent if they are the same). */
type Case = readonly [text: string, ids: readonly number[], control?: readonly number[]]

export interface Variant {
  readonly name: string
  /** Members of the file that differ from the base. */
  readonly changes: { readonly ignore_merges?: boolean; readonly [member: string]: unknown }
  readonly cases: readonly Case[]
}

const BASE = new URL('../../test/fixtures/tokenizer/dolma2-kind.json', import.meta.url)

export async function readVariants(path: string | URL): Promise<Variant[]> {
  return JSON.parse(await readFile(path, 'utf8')) as Variant[]
}

/** The tokenizer of a variant. @throws FormatError if it is not supported. */
export async function variantTokenizer({ changes }: Pick<Variant, 'changes'>): Promise<Tokenizer> {
  const base = JSON.parse(await readFile(BASE, 'utf8')) as { model: object }
  const { ignore_merges = false, ...members } = changes
  return Tokenizer.load(
    utf8(
      JSON.stringify({
        ...base,
        ...members,
        model: { ...base.model, ignore_merges, ...Object(members['model']) },
      }),
    ),
  )
}

/** The texts that are encoded differently. */
export function differences(tokenizer: Tokenizer, { cases }: Pick<Variant, 'cases'>): string[] {
  return cases
    .filter(([text, ids, control = ids]) => {
      const own = tokenizer.encode(text).join()
      const withControl = tokenizer.encode(text, { controlTokens: true }).join()
      return own !== ids.join() || withControl !== control.join()
    })
    .map(([text]) => text)
}
