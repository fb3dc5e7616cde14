/** Three institutions on this machine, each with a home folder and a node of the built program. */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'

const PROGRAM = resolve('dist/src/main.js')
const MODEL = resolve('models/small')

/** A node that may be stopped and started again, on the same port of its API. */
export class Institution {
  readonly name: string
  readonly home: string
  readonly #children = new Set<ChildProcess>()
  #node: ChildProcess | undefined
  #port = 0

  constructor(name: string, home: string) {
    this.name = name
    this.home = home
  }

  /** Run a command to its end. @returns the object that it prints. @throws Error if it fails. */
  async run(...args: string[]): Promise<Record<string, unknown>> {
    const { stdout } = await promisify(execFile)(process.execPath, this.#line(args), { maxBuffer: 1 << 24 })
    return JSON.parse(stdout.trim().split('\n').at(-1) ?? '{}') as Record<string, unknown>
  }

  /** Start a command that takes long, such as `join`. */
  begin(...args: string[]): ChildProcess {
    const child = spawn(process.execPath, this.#line(args), { stdio: ['ignore', 'ignore', 'inherit'] })
    this.#children.add(child)
    child.on('exit', () => this.#children.delete(child))
    return child
  }

  async init(): Promise<void> {
    await this.run(
      'init',
      '--institution',
      this.name,
      '--insecure',
      '--no-mdns',
      '--listen',
      '/ip4/127.0.0.1/tcp/0',
    )
  }

  async found(name: string): Promise<void> {
    await this.run('consortium', 'create', '--public-model', MODEL, '--name', name)
  }

  /** Start the node. Resolves when its API answers. */
  async start(): Promise<void> {
    const node = spawn(
      process.execPath,
      this.#line(['start', '--port', String(this.#port), '--threads', '1']),
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    )
    this.#node = node
    for await (const line of createInterface({ input: node.stdout })) {
      const { api } = JSON.parse(line) as { api: string }
      this.#port = Number(new URL(api).port)
      node.stdout.resume()
      return
    }
    throw new Error(`${this.name} did not start`)
  }

  async stop(): Promise<void> {
    const node = this.#node
    this.#node = undefined
    if (node === undefined || node.exitCode !== null) return
    node.kill('SIGTERM')
    await once(node, 'exit')
  }

  /** Stop everything that was started for this institution. */
  async close(): Promise<void> {
    for (const child of this.#children) child.kill('SIGTERM')
    await this.stop()
  }

  /** A link that opens the dashboard once. */
  async link(...args: string[]): Promise<string> {
    return String((await this.run('dashboard', ...args))['link'])
  }

  /** Ask the API for a short completion. @throws Error if it refuses. */
  async ask(key: string, prompt: string): Promise<void> {
    const response = await fetch(`http://127.0.0.1:${this.#port}/v1/completions`, {
      method: 'POST',
      headers: { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json' },
      body: JSON.stringify({ model: 'flexmesh', prompt, max_tokens: 8 }),
    })
    if (!response.ok) throw new Error(`the API answered ${response.status}: ${await response.text()}`)
    await response.text()
  }

  #line(args: readonly string[]): string[] {
    return [PROGRAM, ...args, '--home', this.home, '--json']
  }
}

/** Run `work` with institutions in a folder that is deleted afterwards. */
export async function withInstitutions(
  names: readonly string[],
  work: (institutions: Institution[]) => Promise<void>,
): Promise<void> {
  if (!existsSync(PROGRAM)) throw new Error(`${PROGRAM} does not exist; run "npm run build" first`)
  const folder = await mkdtemp(join(tmpdir(), 'flexmesh-drive-'))
  const institutions = names.map((name, i) => new Institution(name, join(folder, `home-${i}`)))
  try {
    await work(institutions)
  } finally {
    await Promise.all(institutions.map((one) => one.close()))
    await rm(folder, { recursive: true, force: true })
  }
}
