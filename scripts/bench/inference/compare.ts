/** Runs two servers in alternating rounds on the same prompts, each new to both. Does not know the models. */
import { setTimeout } from 'node:timers/promises'
import { median } from '../machine.ts'
import type { Server } from './server.ts'

export interface Speed {
  readonly prefillMs: number
  readonly decodeMs: number
}

export interface Comparison {
  readonly ours: Speed
  readonly peer: Speed
}

const REST_MS = 200

/**
 * Runs one discarded round, then `rounds` measured ones; the servers take turns at going first.
 * @throws Error if outputs must agree and differ, since different work cannot be compared.
 */
export async function compare(
  ours: Server,
  peer: Server,
  nextPrompt: () => Int32Array,
  rounds: number,
  newTokens: number,
  outputsMustAgree: boolean,
): Promise<Comparison> {
  const times: Record<'ours' | 'peer', { prefillMs: number[]; decodeMs: number[] }> = {
    ours: { prefillMs: [], decodeMs: [] },
    peer: { prefillMs: [], decodeMs: [] },
  }
  for (let round = 0; round <= rounds; round++) {
    const prompt = nextPrompt()
    const outputs: Record<string, readonly number[]> = {}
    const turns = [['ours', ours] as const, ['peer', peer] as const]
    for (const [side, server] of round % 2 === 0 ? turns : turns.reverse()) {
      // Lets the other server's threads, and so the processor's clock, settle, equally for both sides.
      await setTimeout(REST_MS)
      const run = await server.run(prompt, newTokens)
      outputs[side] = run.ids
      if (run.ids.length !== newTokens) throw new Error(`${server.name} gave ${run.ids.length} tokens`)
      if (round === 0) continue
      times[side].prefillMs.push(run.prefillMs)
      times[side].decodeMs.push(run.decodeMs)
    }
    const at = (outputs['ours'] ?? []).findIndex((id, index) => id !== outputs['peer']?.[index])
    if (outputsMustAgree && at >= 0) {
      throw new Error(`the servers did different work: our token ${at} differs from that of ${peer.name}`)
    }
  }
  const speed = (side: 'ours' | 'peer', { counts }: Server): Speed => {
    const summary = counts === 'best' ? (values: number[]) => Math.min(...values) : median
    return { prefillMs: summary(times[side].prefillMs), decodeMs: summary(times[side].decodeMs) }
  }
  return { ours: speed('ours', ours), peer: speed('peer', peer) }
}
