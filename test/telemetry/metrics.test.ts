import '../../src/lib/node20.ts'
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { createApp } from '../../src/serving/app.ts'
import { fixedCallers } from '../../src/serving/callers.ts'
import type { ServingEngine } from '../../src/serving/engine.ts'
import { Metrics, type NodeState } from '../../src/telemetry/metrics.ts'
import { backendOf, fixedEngine, post, refusalOf } from '../support/inference-api.ts'

const HOST = '127.0.0.1:8080'
const KEY = 'k'.repeat(32)
const STATE: NodeState = {
  membersConnected: 2,
  membersAway: 1,
  packages: { accepted: 3, judging: 1 },
  freeBytes: 5e9,
  attention: { bad: 0, warn: 2 },
  nodeKeyExpiresAt: 1_800_000_000,
}

function setUp(change: Partial<ServingEngine> = {}, obstacles: readonly string[] = []) {
  const metrics = new Metrics({ version: '1.2.3', state: async () => STATE })
  const app = createApp({
    backendFor: () => backendOf(fixedEngine(change)),
    callers: fixedCallers([KEY]),
    isOwnHost: (host) => host === HOST,
    now: () => 0,
    metrics,
    obstacles: async () => obstacles,
  })
  const get = (path: string, headers = {}): Promise<Response> =>
    Promise.resolve(app.request(`http://${HOST}${path}`, { headers: { host: HOST, ...headers } }, {}))
  /** Samples by name and labels. */
  const samples = async (): Promise<Map<string, number>> => {
    const response = await get('/metrics', { authorization: `Bearer ${KEY}` })
    expect(response.headers.get('content-type')).toContain('text/plain')
    const lines = (await response.text()).split('\n').filter((line) => /^flexmesh_/.test(line))
    return new Map(
      lines.map((line) => [
        line.slice(0, line.lastIndexOf(' ')),
        Number(line.slice(line.lastIndexOf(' ') + 1)),
      ]),
    )
  }
  return { app, get, samples }
}

describe('/metrics', () => {
  it('counts tokens and requests, and times them', async () => {
    const { app, samples } = setUp()
    await post(app, { prompt: 'Hello', max_tokens: 3 })
    await post(app, { prompt: 'Hello', max_tokens: 4 })
    const found = await samples()
    expect(found.get('flexmesh_prompt_tokens_total')).toBe(12)
    expect(found.get('flexmesh_generation_tokens_total')).toBe(7)
    expect(found.get('flexmesh_request_success_total{finished_reason="length"}')).toBe(2)
    expect(found.get('flexmesh_time_to_first_token_seconds_count')).toBe(2)
    expect(found.get('flexmesh_inter_token_latency_seconds_count')).toBe(5)
    expect(found.get('flexmesh_num_requests_running')).toBe(0)
    expect(found.get('flexmesh_num_requests_waiting')).toBe(0)
  })

  it('counts an answer that fails, and no place stays taken', async () => {
    const { app, samples } = setUp({
      generate: async function* () {
        yield { text: 'a', shares: Float32Array.of(1, 0) }
        throw new Error('broken')
      },
    })
    await post(app, { prompt: 'Hello' })
    await post(app, { prompt: 'x'.repeat(40) })
    const found = await samples()
    expect(found.get('flexmesh_request_success_total{finished_reason="error"}')).toBe(2)
    expect(found.get('flexmesh_num_requests_running')).toBe(0)
    expect(found.get('flexmesh_num_requests_waiting')).toBe(0)
  })

  it('tells the state of the node', async () => {
    const found = await setUp().samples()
    expect(found.get('flexmesh_peers{state="connected"}')).toBe(2)
    expect(found.get('flexmesh_peers{state="away"}')).toBe(1)
    expect(found.get('flexmesh_experts{status="judging"}')).toBe(1)
    expect(found.get('flexmesh_attention{level="warn"}')).toBe(2)
    expect(found.get('flexmesh_disk_free_bytes')).toBe(5e9)
    expect(found.get('flexmesh_node_key_expires_seconds')).toBe(1_800_000_000)
    expect(found.get('flexmesh_build_info{version="1.2.3"}')).toBe(1)
  })

  it('needs a key', async () => {
    const { get } = setUp()
    expect(await refusalOf(await get('/metrics'))).toEqual([401, 'invalid_api_key'])
    expect(await refusalOf(await get('/metrics', { authorization: 'Bearer other' }))).toEqual([
      401,
      'invalid_api_key',
    ])
  })

  it('holds no text of prompts and answers', async () => {
    const { app, get } = setUp()
    await post(app, { prompt: 'Secretive', max_tokens: 6 })
    const text = await (await get('/metrics', { authorization: `Bearer ${KEY}` })).text()
    for (const word of ['Secretive', 'quick', KEY]) expect(text).not.toContain(word)
  })
})

describe('the parser of Prometheus', () => {
  const PROMTOOL = '/usr/bin/promtool'

  it.runIf(existsSync(PROMTOOL))('finds no fault in the metrics and the alert rules', async () => {
    const { app, get } = setUp()
    await post(app, { prompt: 'Hello', max_tokens: 6 })
    const metrics = await (await get('/metrics', { authorization: `Bearer ${KEY}` })).text()
    // It reports what breaks the conventions for names on standard error, and ends with 3.
    const check = spawnSync(PROMTOOL, ['check', 'metrics'], { input: metrics, encoding: 'utf8' })
    expect([check.status, check.stderr]).toEqual([0, ''])
    const rules = fileURLToPath(new URL('../../ops/alerts.yaml', import.meta.url))
    expect(spawnSync(PROMTOOL, ['check', 'rules', rules], { encoding: 'utf8' })).toMatchObject({ status: 0 })
  })
})

describe('the files for operators', () => {
  it.each(['alerts.yaml', 'grafana.json'])('name metrics that a node has: %s', async (name) => {
    const text = await readFile(new URL(`../../ops/${name}`, import.meta.url), 'utf8')
    const { get } = setUp()
    const metrics = await (await get('/metrics', { authorization: `Bearer ${KEY}` })).text()
    const named = new Set(text.match(/\b(?:flexmesh|process|nodejs)_[a-z0-9_]+/g))
    expect(named.size).toBeGreaterThan(3)
    for (const one of named) expect(metrics).toContain(`# TYPE ${one.replace(/_bucket$/, '')} `)
  })
})

describe('/readyz', () => {
  it('says whether the node can do its work, and why not', async () => {
    expect((await setUp().get('/readyz')).status).toBe(200)
    const response = await setUp({}, ['the disk is full']).get('/readyz')
    expect([response.status, await response.json()]).toEqual([
      503,
      { status: 'not ready', reasons: ['the disk is full'] },
    ])
  })
})
