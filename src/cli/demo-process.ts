/** The demo's institutions as processes: starting them, asking them, waiting for them. */
import { type ChildProcess, spawn } from 'node:child_process'
import { ExchangeError } from '../lib/errors.ts'
import { callControl } from '../serving/control.ts'
import { homePaths } from '../store/home.ts'

const POLL_MS = 250
/** Longest wait for something that takes seconds, ms. */
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

/** This program in a process of its own; the demo's nodes get one tensor thread each. */
export function flexmesh(args: readonly string[], signal: AbortSignal): ChildProcess {
  const entry = process.argv[1] as string
  return spawn(process.execPath, [...process.execArgv, entry, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    signal,
  })
}

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

/** Resolves when the process ends well. @throws ExchangeError with what it printed. */
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

export async function call<T>(
  institution: Institution,
  command: string,
  args: unknown,
  signal: AbortSignal,
  onProgress?: (progress: unknown) => void,
): Promise<T> {
  return (await callControl(homePaths(institution.home).control, command, args, {
    signal,
    ...(onProgress === undefined ? {} : { onProgress }),
  })) as T
}

/** Ask again until the answer is yes, or `failure` rejects. @throws ExchangeError `timeout`, naming `what`. */
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
    signal.throwIfAborted()
    if (broken !== undefined) throw broken
    if (performance.now() > deadline) throw new ExchangeError('timeout', `waited in vain for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}
