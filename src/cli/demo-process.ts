/** The institutions of the demo as processes: starts them, calls commands in them, waits for them. */
import { type ChildProcess, spawn } from 'node:child_process'
import type { NodeCommand } from '../commands/command.ts'
import { ExchangeError } from '../lib/errors.ts'
import { pause } from '../lib/pause.ts'
import { callControl } from '../serving/control-client.ts'
import { homePaths } from '../store/home.ts'

/** Time between two questions, ms. */
const POLL_MS = 250
/** Maximum wait for something that takes seconds, ms. */
const PATIENCE_MS = 120_000

export interface Institution {
  readonly name: string
  readonly domain: string
  readonly expert: string
  readonly data: string
  readonly home: string
  peerId: string
  api: string
  process?: ChildProcess
}

/** This program with other arguments, in a process of its own. */
export function flexmesh(args: readonly string[], signal: AbortSignal): ChildProcess {
  const entry = process.argv[1] as string
  return spawn(process.execPath, [...process.execArgv, entry, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    signal,
  })
}

/** Start a node with one tensor thread. Resolves when its API answers. @throws ExchangeError if it ends before. */
export async function startProcess(
  institution: Institution,
  port: number,
  signal: AbortSignal,
): Promise<void> {
  const child = flexmesh(
    ['start', '--home', institution.home, '--port', String(port), '--threads', '1', '--json'],
    signal,
  )
  institution.process = child
  const failed = exitOf(child, `${institution.name} did not start`)
  const ready = new Promise<void>((resolve) => {
    let text = ''
    child.stdout?.on('data', (chunk: Buffer) => {
      text += chunk.toString()
      if (!text.includes('\n')) return
      const line = JSON.parse(text.split('\n')[0] as string) as { api: string }
      institution.api = line.api
      resolve()
    })
  })
  await Promise.race([ready, failed])
  failed.catch(() => undefined)
}

/** Resolves when the process exits with 0. @throws ExchangeError with what the process printed on stderr. */
export function exitOf(child: ChildProcess, title: string): Promise<void> {
  let errors = ''
  child.stderr?.on('data', (chunk: Buffer) => {
    errors = (errors + chunk.toString()).slice(-2_000)
  })
  child.stdout?.resume()
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('exit', (code) =>
      code === 0
        ? resolve()
        : reject(new ExchangeError('protocol', `${title}: ${errors.trim() || `exit code ${code}`}`)),
    )
  })
}

export function ended(child: ChildProcess | undefined): Promise<void> {
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return Promise.resolve()
  return new Promise((resolve) => child.on('exit', () => resolve()))
}

/** Run a command in the node of an institution. */
export async function call<Q, P, R>(
  { home }: Institution,
  command: NodeCommand<Q, P, R>,
  request: Readonly<Record<string, unknown>>,
  signal: AbortSignal,
  onProgress: (event: P) => void = () => undefined,
): Promise<R> {
  const { control } = homePaths(home)
  const result = await callControl(control, command.name, request, {
    signal,
    onProgress: (event) => onProgress(event as P),
  })
  return result as R
}

/**
 * Ask again and again until the answer is true.
 * @param failure ends the wait if it rejects.
 * @throws ExchangeError `timeout`, which names `what`, or `aborted`; the reason of `failure`.
 */
export async function until(
  what: string,
  signal: AbortSignal,
  answer: () => Promise<boolean>,
  failure?: Promise<unknown>,
): Promise<void> {
  let broken: unknown
  failure?.catch((error: unknown) => {
    broken = error
  })
  const deadline = performance.now() + PATIENCE_MS
  while (!(await answer())) {
    if (broken !== undefined) throw broken
    if (performance.now() > deadline)
      throw new ExchangeError('timeout', `${what}: did not happen within ${PATIENCE_MS / 1000} s`)
    await pause(POLL_MS, signal)
  }
}
