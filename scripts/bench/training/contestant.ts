/**
 * One contestant of the training benchmark: a process that reads the work folder, reports when it is ready, and then
 * runs the requested numbers of steps. Does not know the models.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createInterface } from 'node:readline'

/** First line that a contestant prints: its version, and the time for which it prepared the step. */
export interface Ready {
  readonly version: string
  readonly compileMs: number
}

/** Answer to a line with a number of steps. */
export interface Steps {
  /** Loss of the first of these steps. */
  readonly loss: number
  readonly ms: readonly number[]
}

/** Maximum wait for one answer, such as an eager peer's slowest round or a compiler's first step. */
const ANSWER_TIMEOUT_MS = 300_000

export class Contestant {
  readonly ready: Ready
  readonly #child: ChildProcess
  readonly #lines: AsyncIterator<string>

  private constructor(child: ChildProcess, lines: AsyncIterator<string>, ready: Ready) {
    this.#child = child
    this.#lines = lines
    this.ready = ready
  }

  /** @throws Error with the reason if the process exits before it is ready. */
  static async start(
    command: string,
    args: readonly string[],
    env: Record<string, string>,
  ): Promise<Contestant> {
    const child = spawn(command, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
      timeout: ANSWER_TIMEOUT_MS * 4,
    })
    const errors: string[] = []
    child.stderr?.on('data', (text: Buffer) => errors.push(text.toString('utf8')))
    child.stdin?.on('error', () => undefined)
    await once(child, 'spawn')
    const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]()
    try {
      return new Contestant(child, lines, JSON.parse(await answer(lines)) as Ready)
    } catch {
      child.kill('SIGKILL')
      const reasons = errors
        .join('')
        .split('\n')
        .filter((line) => line.includes('Error'))
      throw new Error(reasons.at(-1)?.trim() ?? `${command} exited before it was ready`)
    }
  }

  async run(steps: number): Promise<Steps> {
    this.#child.stdin?.write(`${steps}\n`)
    return JSON.parse(await answer(this.#lines)) as Steps
  }

  /** Peak resident memory so far, bytes; undefined without /proc. */
  async peakMemory(): Promise<number | undefined> {
    const status = await readFile(`/proc/${this.#child.pid}/status`, 'utf8').catch(() => '')
    const kilobytes = /VmHWM:\s+(\d+) kB/.exec(status)?.[1]
    return kilobytes === undefined ? undefined : Number(kilobytes) * 1024
  }

  async stop(): Promise<void> {
    this.#child.stdin?.end()
    if (this.#child.exitCode === null && this.#child.signalCode === null) await once(this.#child, 'exit')
  }
}

async function answer(lines: AsyncIterator<string>): Promise<string> {
  const timeout = AbortSignal.timeout(ANSWER_TIMEOUT_MS)
  const late = new Promise<never>((_, reject) => {
    timeout.addEventListener('abort', () => reject(new Error('no answer in time')))
  })
  const { value, done } = await Promise.race([lines.next(), late])
  if (done === true) throw new Error('the contestant exited')
  return value as string
}
