/**
 * Runs the built program as a user does, and measures its seconds and its peak of resident memory. Linux only, since it
 * reads /proc. Does not know what the commands do.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { setTimeout as pause } from 'node:timers/promises'
import { PROGRAM } from '../node-process.ts'

const SAMPLE_MS = 20
/** A command that takes longer is ended and reported as not measured. */
const MAX_MS = 3_600_000
const MAX_KEPT_LINES = 10_000

export class MeasuredProcess {
  readonly #child: ChildProcess
  readonly #started = performance.now()
  readonly #timer: NodeJS.Timeout
  readonly #waiters = new Set<() => void>()
  readonly #ended: Promise<void>
  #peak = 0
  /** Lines of standard output and standard error so far. */
  readonly out: string[] = []
  readonly errors: string[] = []

  constructor(args: readonly string[]) {
    this.#child = spawn(process.execPath, [PROGRAM, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
    this.#timer = setInterval(() => this.#sample(), SAMPLE_MS)
    this.#ended = once(this.#child, 'close').then(() => {
      clearInterval(this.#timer)
      this.#wake()
    })
    this.#collect(this.#child.stdout as NodeJS.ReadableStream, this.out)
    this.#collect(this.#child.stderr as NodeJS.ReadableStream, this.errors)
  }

  /** Seconds since the start. */
  get seconds(): number {
    return (performance.now() - this.#started) / 1000
  }

  /** Peak of resident memory so far, 10^6 bytes. */
  get peakMB(): number {
    this.#sample()
    return Math.round(this.#peak / 1e6)
  }

  /** Resident memory now, 10^6 bytes. */
  get residentMB(): number {
    return Math.round(residentBytes(this.#child.pid) / 1e6)
  }

  /** @throws Error with the program's error message if it ends before `isTrue`; Error after `maxMs`. */
  async until(isTrue: () => boolean | Promise<boolean>, maxMs = MAX_MS): Promise<void> {
    const deadline = performance.now() + maxMs
    while (!(await isTrue())) {
      if (this.#hasEnded) throw new Error(this.#reason())
      if (performance.now() > deadline) throw new Error(`nothing happened in ${maxMs / 60_000} minutes`)
      await Promise.race([pause(SAMPLE_MS), new Promise<void>((resolve) => this.#waiters.add(resolve))])
    }
  }

  /** Waits for the end. @throws Error with the program's error message if it failed. */
  async finish(): Promise<void> {
    while (!this.#hasEnded) {
      this.#check()
      await Promise.race([pause(1000), this.#ended])
    }
    await this.#ended
    if (this.#child.exitCode !== 0) throw new Error(this.#reason())
  }

  /** Asks the program to end, and waits until it has. */
  async stop(): Promise<void> {
    this.#child.kill('SIGTERM')
    await this.#ended
  }

  get #hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null
  }

  #check(): void {
    if (this.#hasEnded || this.seconds * 1000 < MAX_MS) return
    this.#child.kill('SIGKILL')
    throw new Error(`ended after ${MAX_MS / 60_000} minutes`)
  }

  #reason(): string {
    const { exitCode, signalCode } = this.#child
    const message = this.errors.findLast((line) => /^flexmesh\b|Error/.test(line))
    return message ?? `flexmesh ended with ${signalCode ?? `code ${String(exitCode)}`}`
  }

  #sample(): void {
    this.#peak = Math.max(this.#peak, residentBytes(this.#child.pid))
  }

  #collect(stream: NodeJS.ReadableStream, lines: string[]): void {
    createInterface({ input: stream }).on('line', (line) => {
      lines.push(line)
      if (lines.length > MAX_KEPT_LINES) lines.shift()
      this.#wake()
    })
  }

  #wake(): void {
    for (const wake of this.#waiters) wake()
    this.#waiters.clear()
  }
}

/** Runs a command to its end. @throws Error with its error message if it fails. */
export async function runMeasured(
  args: readonly string[],
): Promise<MeasuredProcess & { readonly took: number }> {
  const child = new MeasuredProcess(args)
  try {
    await child.finish()
  } finally {
    await child.stop()
  }
  return Object.assign(child, { took: child.seconds })
}

/**
 * Anonymous and shared memory of a process, bytes; 0 once it has ended. RssFile is left out: it counts pages of files,
 * such as weights that are read or mapped, which the system drops when it needs memory. VmHWM, the peak that the kernel
 * keeps, includes them, so the sum is sampled instead.
 */
function residentBytes(pid: number | undefined): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8')
    const kilobytes = (name: string): number =>
      Number(new RegExp(`${name}:\\s+(\\d+) kB`).exec(status)?.[1] ?? 0)
    return (kilobytes('RssAnon') + kilobytes('RssShmem')) * 1024
  } catch {
    return 0
  }
}
