/** Text that spells the names of special tokens, as manuals of software do, on its way to training. */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { prepareCorpus } from '../../src/data/prepare-corpus.ts'
import { Tokenizer } from '../../src/data/tokenizer.ts'
import { cleanUp, folder, SMALL_MODEL } from '../support/folders.ts'

const DOCUMENTS = 7
const SPELLED = 20

afterAll(cleanUp)

it('has as many ends of text as documents', async () => {
  const dir = await folder()
  const tokenizer = Tokenizer.load(new Uint8Array(await readFile(join(SMALL_MODEL, 'tokenizer.json'))))
  const paths: string[] = []
  for (let i = 0; i < DOCUMENTS; i++) {
    const path = join(dir, `manual-${i}.md`)
    const words = Array.from({ length: 1000 }, (_, j) => `word${i}x${(j * 31) % 997}`).join(' ')
    await writeFile(path, `${words} ${'The separator is written <|endoftext|>. '.repeat(SPELLED)}`)
    paths.push(path)
  }
  const corpus = await prepareCorpus({ paths, tokenizer, outDir: join(dir, 'corpus') })
  try {
    const { train, stats } = corpus
    const tokens = Array.from(await train.read(0, train.tokens))
    expect(tokens.filter((id) => id === tokenizer.endOfText)).toHaveLength(stats.train.documents)
    expect(tokenizer.decode(tokens).split('<|endoftext|>')).toHaveLength(1 + SPELLED * stats.train.documents)
    for (const document of await corpus.heldOut(2 ** 20))
      expect(Array.from(document.tokens)).not.toContain(tokenizer.endOfText)
    expect(stats.train.documents + stats.heldOut.documents).toBe(DOCUMENTS)
  } finally {
    await corpus.close()
  }
})
