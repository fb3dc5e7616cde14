/** One answer on its way from logits to its reader. */
import { describe, expect, it } from 'vitest'
import { RequestStream } from '../../src/inference/request-stream.ts'

/** Ids that a reader gets when these tokens are the most likely ones, one after the other. */
async function answerOf(likely: readonly number[], endsOfText: readonly number[]): Promise<number[]> {
  const request = {
    prompt: Int32Array.of(0),
    maxTokens: 10,
    sampling: { temperature: 0, topP: 1, seed: 1 },
    endsOfText,
    mask: new Float32Array(1),
  }
  const stream = new RequestStream(request, 100, undefined)
  for (const id of likely) {
    const logits = new Float32Array(10)
    logits[id] = 1
    if (!stream.isOver) stream.choose(logits, Float32Array.of(1))
  }
  stream.end()
  const ids: number[] = []
  for await (const { id } of stream.tokens()) ids.push(id)
  return ids
}

describe('an answer', () => {
  it.each([
    [[0], [4, 5, 6, 7]],
    [
      [0, 6],
      [4, 5],
    ],
    [[7, 5], [4]],
    [[4], []],
    [[], [4, 5, 6, 7]],
  ])('ends at any of the ends of text %j', async (ends, expected) => {
    expect(await answerOf([4, 5, 6, 7], ends)).toEqual(expected)
  })
})
