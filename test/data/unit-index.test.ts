import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadPublicModel } from '../../src/checkpoint/public-model.ts'
import { prepareCorpus } from '../../src/data/prepare-corpus.ts'
import type { Tokenizer } from '../../src/data/tokenizer.ts'
import { readUnit, readUnits, type Unit, unitTokens } from '../../src/data/unit-index.ts'
import { cleanUp, folder, SMALL_MODEL } from '../support/folders.ts'

let tokenizer: Tokenizer
beforeAll(async () => {
  ;({ tokenizer } = await loadPublicModel(SMALL_MODEL))
})
afterAll(cleanUp)

/** Units of files by name, with the text of each. */
async function unitsOf(files: Record<string, string>, by: 'document' | 'source'): Promise<string[]> {
  const dir = await folder()
  for (const [name, text] of Object.entries(files)) await writeFile(join(dir, name), text)
  const outDir = join(await folder(), 'corpus')
  const corpus = await prepareCorpus({ paths: [dir], tokenizer, outDir, independent: true, heldOutShare: 0 })
  try {
    const units = (await readUnits(outDir, by, corpus.train.tokens)) as readonly Unit[]
    const texts: string[] = []
    for (const unit of units) {
      const ids = await readUnit(corpus.train, unit, 0, unitTokens(unit))
      texts.push(tokenizer.decode(ids.filter((id) => id !== tokenizer.endOfText)))
    }
    return texts
  } finally {
    await corpus.close()
  }
}

const row = (text: string, source?: string): string => JSON.stringify({ text, source })

describe('the units of a text', () => {
  it('are its documents; all pieces of a long one belong to it', async () => {
    const long = 'One sentence of a long document. '.repeat(1500)
    const units = await unitsOf({ 'a.txt': long, 'b.jsonl': `${row('first')}\n${row('second')}` }, 'document')
    expect(units).toEqual([long, 'first', 'second'])
  })

  it('are sources: values of the column in every kind of table, else folders', async () => {
    const files = {
      'a.jsonl': [row('one', 'P1'), row('two', 'P2'), row('three', 'P1')].join('\n'),
      'b.csv': 'text,source\nfour,P2\nfive,\n',
      'c.txt': 'six',
    }
    // P1 has two stretches that are apart; five has no source, so it belongs to the folder like six.
    expect(await unitsOf(files, 'source')).toEqual(['onethree', 'twofour', 'fivesix'])
  })

  it('keep documents that are equal, since the first must not decide about the second', async () => {
    const files = { 'a.jsonl': `${row('the same')}\n${row('the same')}` }
    expect(await unitsOf(files, 'document')).toEqual(['the same', 'the same'])
  })

  it('are read in parts across stretches', async () => {
    const file = {
      read: async (start: number, count: number) => Int32Array.from({ length: count }, (_, i) => start + i),
    }
    const unit = [
      { start: 10, tokens: 3 },
      { start: 50, tokens: 2 },
    ]
    expect([...(await readUnit(file, unit, 1, 3))]).toEqual([11, 12, 50])
    expect([...(await readUnit(file, unit, 4, 9))]).toEqual([51])
    expect([...(await readUnit(file, unit, 5, 9))]).toEqual([])
  })

  it('are refused if they do not cover the token file, and absent without an index', async () => {
    const dir = await folder()
    expect(await readUnits(dir, 'document', 5)).toBeUndefined()
    await writeFile(join(dir, 'train.units'), Int32Array.of(3, 0, 0))
    await expect(readUnits(dir, 'document', 5)).rejects.toMatchObject({ code: 'bad-field' })
  })
})
