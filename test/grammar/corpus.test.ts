/** Answers of a random writer that obeys masks: whatever it writes to its end is valid by the schema. */
import { readFileSync } from 'node:fs'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { describe, expect, it } from 'vitest'
import { corpus } from '../../scripts/conformance/schemas/corpus.ts'
import { schemaProgram } from '../../src/grammar/json-program.ts'
import { mulberry32 } from '../../src/lib/random.ts'
import { smallVocabulary, write } from '../support/grammar.ts'

const vocabulary = smallVocabulary(readFileSync('models/small/tokenizer.json'))

describe('answers that follow a schema', () => {
  it('are valid, whichever tokens are chosen', () => {
    expect(corpus().length).toBeGreaterThanOrEqual(200)
    // scripts/conformance/schemas asks a node about all of them.
    const entries = corpus().slice(0, 60)
    const random = mulberry32(7)
    let complete = 0
    for (const { schema } of entries) {
      const isValid = new Ajv2020({ strict: false, allErrors: false }).compile(schema)
      const program = schemaProgram(schema, 'schema')
      for (let i = 0; i < 2; i++) {
        const text = write({ program, vocabulary, random, mostTokens: 120 })
        if (text === undefined) continue
        complete++
        expect(isValid(JSON.parse(text)), `${text} of ${JSON.stringify(schema)}`).toBe(true)
      }
    }
    expect(complete).toBeGreaterThan(1.5 * entries.length)
  })
})
