/** What the bench of attacks knows about an attack: a name, how it begins, and what it has counted when it stops. */
import type { Founder, HostileMember } from '../../../test/support/hostile/member.ts'

export interface Target extends Founder {
  /** Peer id of the honest member that publishes. */
  readonly member: string
}

export interface Attack {
  readonly name: string
  /**
   * Begin.
   * @param join makes a hostile member with a key of its own
   * @param round number of the attempt, from 0 on: each one needs other keys
   */
  start(target: Target, join: Join, round: number): Promise<RunningAttack>
}

export type Join = (name: string, seed: number) => Promise<HostileMember>

export interface RunningAttack {
  /** @returns what the attack counted. */
  stop(): Promise<Readonly<Record<string, number>>>
}

/** Waits without keeping the process alive. */
export const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms).unref())

/** Repeats an action until it is stopped; failures are what an attacker expects. */
export function repeating(action: () => Promise<unknown>, pauseMs: number): { stop(): Promise<number> } {
  let isStopped = false
  let count = 0
  const loop = (async () => {
    while (!isStopped) {
      await action().catch(() => undefined)
      count++
      await new Promise((resolve) => setTimeout(resolve, pauseMs))
    }
  })()
  return {
    stop: async () => {
      isStopped = true
      await loop
      return count
    },
  }
}
