/**
 * A dashboard of a consortium that no machine could run: many members and packages, and any number of events. The
 * server, its routes and its page are the real ones; the commands return made-up results.
 */
import '../../src/lib/node20.ts'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Dashboard } from '../../src/dashboard/dashboard.ts'
import { createApp } from '../../src/serving/app.ts'
import { fixedCallers } from '../../src/serving/callers.ts'
import { isLoopbackHost } from '../../src/serving/host.ts'
import { startServer } from '../../src/serving/server.ts'
import { backendOf, fixedEngine } from '../../test/support/inference-api.ts'

const NOW = Math.floor(Date.now() / 1000)
const STATES = ['accepted', 'refused', 'withdrawn', 'superseded', 'expired']
const WORDS = ['law', 'oncology', 'theorems', 'letters', 'finance', 'weather', 'patents', 'maps']

export interface SimulatedNode {
  readonly link: string
  /** Send events to the page, and resolve when the server has written them. */
  push(events: readonly { readonly event: string }[]): Promise<void>
  close(): Promise<void>
}

export async function simulatedNode(members: number, packages: number): Promise<SimulatedNode> {
  const folder = await mkdtemp(join(tmpdir(), 'flexmesh-simulated-'))
  const dashboard = await Dashboard.open({
    sessions: join(folder, 'sessions.json'),
    now: () => Math.floor(Date.now() / 1000),
    onUnexpected: (command, error) => console.error(command, error),
  })
  const results = resultsOf(members, packages)
  const mount = await dashboard.routes({
    peerId: peerId(0),
    commands: Object.fromEntries(
      Object.entries(results).map(([name, result]) => [
        name,
        async function* () {
          return { result, words: [] }
        },
      ]),
    ),
    isReadOnly: () => true,
    about: () => ({
      institution: institution(0),
      peerId: peerId(0),
      consortium: 'Simulated consortium',
      commands: Object.keys(results),
    }),
  })
  let port = 0
  const app = createApp({
    backendFor: () => backendOf(fixedEngine()),
    callers: fixedCallers(['k'.repeat(32)]),
    isOwnHost: (host) => isLoopbackHost(host, port),
    now: () => Math.floor(Date.now() / 1000),
    mount,
  })
  const server = await startServer(app, 0)
  port = server.port
  return {
    link: dashboard.link(`http://127.0.0.1:${port}`, 'operator'),
    push: async (events) => {
      for (const event of events) dashboard.add(event)
      await new Promise((resolve) => setImmediate(resolve))
    },
    close: async () => {
      await server.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

/** An hour of a busy node: lines of its log, progress of trainings and verdicts. */
export function eventsOf(count: number): { event: string }[] {
  return Array.from({ length: count }, (_, i) => {
    if (i % 10 === 0)
      return {
        event: 'training',
        name: `training-${i % 7}`,
        state: 'running',
        step: { step: i % 1000, totalSteps: 1000, secondsLeft: 60, loss: 3 / (1 + i / count) },
      }
    if (i % 10 === 1)
      return {
        event: 'verdict',
        institution: institution(i % 100),
        verdict: { id: digest(i), outcome: 'accepted', expert: WORDS[i % WORDS.length], at: NOW + i },
      }
    return {
      event: 'log',
      level: i % 50 === 2 ? 'warn' : 'info',
      part: 'exchange',
      message: `synced with ${peerId(i % 1000)}: ${i} statements, ${i * 37} bytes, in ${i % 200} ms`,
    }
  })
}

function resultsOf(members: number, packages: number): Record<string, unknown> {
  const all = Array.from({ length: members }, (_, i) => ({
    institution: institution(i),
    peerId: peerId(i),
    role: i < 3 ? 'founder' : 'member',
    revoked: i % 50 === 49,
    forked: false,
    isSelf: i === 0,
    connected: i % 3 !== 2,
    lastSeenAt: NOW - i * 60,
  }))
  return {
    status: { attention: [], running: [] },
    jobs: { running: [], waiting: [] },
    members: {
      consortium: 'Simulated consortium',
      rosterVersion: members,
      rosterExpiresAt: NOW + 8_000_000,
      isRunning: true,
      addresses: [`/ip4/192.0.2.1/tcp/4001/p2p/${peerId(0)}`],
      members: all,
      rules: [{ kind: 'admit', rule: 'majority members' }],
      requests: [],
      invitations: [],
    },
    proposals: { proposals: [], equivocations: [] },
    log: {
      needed: 2,
      logs: all.map(({ institution: name, peerId: id }, i) => ({
        institution: name,
        peerId: id,
        statements: i,
        final: i,
        cosigners: [institution(i + 1), institution(i + 2)],
        checkpointSize: i,
      })),
    },
    experts: {
      composition: digest(0),
      router: 'solved',
      composed: [],
      ending: [],
      withdrawnExports: [],
      packages: Array.from({ length: packages }, (_, i) => packageOf(i)),
    },
    'key show': {
      institutionKey: peerId(0),
      institutionKeyFile: null,
      nodeKey: null,
      nodeKeyExpiresAt: null,
      scopes: [],
      next: null,
      isRuling: true,
      homeKey: peerId(0),
    },
    withdrawals: { now: NOW, withdrawals: [] },
  }
}

function packageOf(i: number): object {
  const state = STATES[i % STATES.length]
  const accepted = state === 'accepted'
  return {
    id: digest(i),
    state,
    institution: institution(i),
    isOwn: false,
    expert: `${WORDS[i % WORDS.length]}-${i}`,
    domain: WORDS[i % WORDS.length],
    license: 'CC-BY-4.0',
    privacy: { mechanism: 'none' },
    bytes: 2_400_000 + i,
    expiresAt: NOW + 10_000_000,
    verdict: {
      id: digest(i),
      at: NOW - i,
      ...(accepted
        ? { outcome: 'accepted', measurement: { public: { before: 1.48, after: 1.48 + i / 1e5 } } }
        : { outcome: 'refused', code: 'harms-public-text', reason: 'public text becomes 2.1 % worse' }),
    },
  }
}

function institution(i: number): string {
  return `Institute of ${WORDS[i % WORDS.length]} ${i}`
}

function peerId(i: number): string {
  return `12D3KooW${String(i).padStart(44, 'x')}`
}

function digest(i: number): string {
  return `sha256:${i.toString(16).padStart(64, '0')}`
}
