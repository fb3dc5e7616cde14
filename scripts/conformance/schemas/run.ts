/**
 * Asks a running node for an answer to every schema of the corpus, and judges the answers that end by themselves with
 * ajv. Fails if one of them is not valid. Needs the development dependencies.
 * Usage: tsx scripts/conformance/schemas/run.ts --url http://127.0.0.1:8080/v1 --key KEY [--tokens 512] [--at-once 16]
 */
import { parseArgs } from 'node:util'
import { Ajv2020 } from 'ajv/dist/2020.js'
import OpenAI from 'openai'
import { corpus, type Entry } from './corpus.ts'

const { values } = parseArgs({
  options: {
    url: { type: 'string' },
    key: { type: 'string' },
    tokens: { type: 'string', default: '512' },
    'at-once': { type: 'string', default: '16' },
  },
})
if (values.url === undefined || values.key === undefined) throw new Error('expected --url and --key')
const client = new OpenAI({ baseURL: values.url, apiKey: values.key, maxRetries: 5 })
const maxTokens = Number(values.tokens)
const counts = { valid: 0, invalid: 0, 'cut off': 0 }
let tokens = 0

/** @param seed of the sampling, so that a failure can be repeated */
async function ask({ prompt, schema }: Entry, seed: number): Promise<keyof typeof counts> {
  const answer = await client.chat.completions.create({
    model: 'flexmesh',
    messages: [{ role: 'user', content: prompt }],
    response_format: {
      type: 'json_schema',
      json_schema: { name: 'form', strict: true, schema: schema as Record<string, unknown> },
    },
    max_completion_tokens: maxTokens,
    seed,
  })
  tokens += answer.usage?.completion_tokens ?? 0
  const [choice] = answer.choices
  if (choice?.finish_reason !== 'stop') return 'cut off'
  const validate = new Ajv2020({ strict: false }).compile(schema)
  const text = choice.message.content ?? ''
  if (validate(JSON.parse(text))) return 'valid'
  console.error(`not valid: ${text}\n  of ${JSON.stringify(schema)}, seed ${seed}`)
  return 'invalid'
}

const waiting = corpus().map((entry, seed) => ({ entry, seed }))
const total = waiting.length
const start = performance.now()
await Promise.all(
  Array.from({ length: Number(values['at-once']) }, async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift())
      counts[await ask(next.entry, next.seed)]++
  }),
)
const seconds = ((performance.now() - start) / 1000).toFixed(1)
console.log(`${total} schemas: ${JSON.stringify(counts)}, ${tokens} tokens in ${seconds} s`)
if (counts.invalid > 0) process.exitCode = 1
