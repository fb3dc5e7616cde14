/**
 * Trains the public tokenizer on the public corpus only, since closed text must not influence it.
 * Usage: tsx scripts/public-model/train-tokenizer.ts CORPUS.jsonl OUT/tokenizer.json VOCAB_SIZE
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { learnMerges, tokenizerJson } from './bpe-trainer.ts'

const [corpus, out, vocab] = process.argv.slice(2)
if (corpus === undefined || out === undefined || vocab === undefined) {
  console.error(
    'usage: tsx scripts/public-model/train-tokenizer.ts CORPUS.jsonl OUT/tokenizer.json VOCAB_SIZE',
  )
  process.exit(2)
}
const texts = readFileSync(corpus, 'utf8')
  .trimEnd()
  .split('\n')
  .map((line) => (JSON.parse(line) as { text: string }).text)
const merges = learnMerges(texts, Number(vocab))
writeFileSync(out, JSON.stringify(tokenizerJson(merges)))
console.log(`${merges.length} merges -> ${out}`)
