import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { readEvents } from '../../src/serving/event-reader.ts'

async function* chunks(...bytes: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* bytes
}
const encode = (text: string): Uint8Array => new TextEncoder().encode(text)

async function eventsOf(...parts: readonly Uint8Array[]): Promise<string[]> {
  const events: string[] = []
  for await (const event of readEvents(chunks(...parts), 100)) events.push(event)
  return events
}

const STREAMS: readonly (readonly [name: string, text: string, events: readonly string[]])[] = [
  ['lines that end with LF', 'data: a\n\ndata: b\n\n', ['a', 'b']],
  ['lines that end with CR LF', 'data: a\r\n\r\ndata: b\r\n\r\n', ['a', 'b']],
  ['lines that end with CR', 'data: a\r\rdata: b\r\r', ['a', 'b']],
  ['a byte order mark', '\ufeffdata: a\n\n', ['a']],
  ['comments', ': ping\n\ndata: a\n: ping\n\n:\n\n', ['a']],
  ['other fields', 'event: x\nid: 1\nretry: 5\ndata: a\n\ndatabase: b\n\n', ['a']],
  ['no space after the colon', 'data:a\n\ndata:  b\n\n', ['a', ' b']],
  ['data on several lines', 'data: {\ndata: "a": 1\ndata: }\n\n', ['{\n"a": 1\n}']],
  ['empty data', 'data\n\ndata:\n\n', ['', '']],
  ['no empty line at the end', 'data: a\n\ndata: b', ['a', 'b']],
  ['a CR at the end', 'data: a\r', ['a']],
  ['characters of several bytes', 'data: é😀\u2028\n\n', ['é😀\u2028']],
  ['several empty lines', '\n\n\ndata: a\n\n\n\ndata: b\n\n', ['a', 'b']],
]

describe('server-sent events', () => {
  it.each(STREAMS)('may have %s', async (_, text, events) => {
    expect(await eventsOf(encode(text))).toEqual(events)
  })

  it.each(STREAMS)('are the same in chunks of one byte: %s', async (_, text, events) => {
    expect(await eventsOf(...Array.from(encode(text), (byte) => Uint8Array.of(byte)))).toEqual(events)
  })

  it('are the same however they are cut', async () => {
    const stream = fc.constantFrom(...STREAMS)
    const property = fc.asyncProperty(stream, fc.array(fc.nat(60)), async ([, text, events], cuts) => {
      const bytes = encode(text)
      const at = [0, ...cuts.filter((cut) => cut < bytes.length).sort((a, b) => a - b), bytes.length]
      expect(await eventsOf(...at.slice(1).map((end, i) => bytes.subarray(at[i], end)))).toEqual(events)
    })
    await fc.assert(property, { seed: 15, numRuns: 300 })
  })

  it.each([
    ['line', `data: ${'x'.repeat(101)}`],
    ['event', `data: ${'x'.repeat(60)}\ndata: ${'x'.repeat(60)}\n\n`],
    ['comment', `: ${'x'.repeat(101)}`],
  ])('are refused if a %s is too long', async (_, text) => {
    await expect(eventsOf(encode(text))).rejects.toThrow('an event of more than 100 characters')
  })
})
