/** One answer on its way from logits to its reader. */
import { describe, expect, it } from 'vitest'
import type { LogitProcessor } from '../../src/inference/logit-processor.ts'
import { RequestStream } from '../../src/inference/request-stream.ts'

/** Ids that a reader gets when these tokens are the most likely ones, one after the other. */
async function answerOf(
  likely: readonly number[],
  endsOfText: readonly number[],
  processors: readonly LogitProcessor[] = [],
): Promise<number[]> {
  const request = {
    prompt: Int32Array.of(0),
    maxTokens: 10,
    sampling: { temperature: 0, topP: 1, seed: 1 },
    endsOfText,
    processors,
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

  it('is chosen from logits that its processors change in their order, and they see every token', async () => {
    const seen: number[][] = [[], []]
    const forbid = (token: number, log: number[] | undefined): LogitProcessor => ({
      apply: (logits) => {
        logits[token] = -Infinity
      },
      observe: (id) => void log?.push(id),
    })
    const prefer: LogitProcessor = {
      // A token that is forbidden already is not the least likely one by chance.
      apply: (logits) => {
        if (logits[4] === -Infinity) logits[8] = 9
      },
      observe: (id) => void seen[1]?.push(id),
    }
    expect(await answerOf([4, 5], [], [forbid(4, seen[0]), prefer])).toEqual([8, 8])
    expect(await answerOf([4, 5], [8], [forbid(4, seen[0]), prefer])).toEqual([])
    expect(seen).toEqual([
      [8, 8, 8],
      [8, 8, 8],
    ])
  })
})
