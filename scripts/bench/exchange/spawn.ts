/** Starts `end.child.ts` in a process and exchanges messages with it. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { EndInit } from './end.ts'
import type { Kind } from './ends.ts'
import type { Reading } from './meter.ts'

export class EndProcess {
  readonly #child: ChildProcess
  readonly offer: unknown

  private constructor(child: ChildProcess, offer: unknown) {
    this.#child = child
    this.offer = offer
  }

  static async start(kind: Kind, { role, dir, file }: EndInit): Promise<EndProcess> {
    const script = fileURLToPath(new URL('./end.child.ts', import.meta.url))
    const child = fork(script, [kind, role, dir, file], { execArgv: ['--import', 'tsx'] })
    const { offer } = (await answer(child)) as { offer?: unknown }
    return new EndProcess(child, offer)
  }

  /** Runs one transfer, which the receiver times. */
  async receive(offers: readonly unknown[]): Promise<{ ms: number } & Reading> {
    return (await this.#call({ receive: offers })) as { ms: number } & Reading
  }

  async startMeter(): Promise<void> {
    await this.#call('start')
  }

  async stopMeter(): Promise<Reading> {
    return (await this.#call('stop')) as Reading
  }

  stop(): void {
    this.#child.disconnect()
  }

  async #call(message: 'start' | 'stop' | { receive: readonly unknown[] }): Promise<unknown> {
    const answered = answer(this.#child)
    this.#child.send(message)
    return answered
  }
}

async function answer(child: ChildProcess): Promise<unknown> {
  const abort = new AbortController()
  const ended = once(child, 'exit', { signal: abort.signal }).then(([code]) => {
    throw new Error(`the process of one end of the transfer exited with code ${String(code)}`)
  })
  ended.catch(() => undefined)
  try {
    const [message] = (await Promise.race([once(child, 'message'), ended])) as [unknown]
    return message
  } finally {
    abort.abort()
  }
}
