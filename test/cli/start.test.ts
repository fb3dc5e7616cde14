import { readFile, writeFile } from 'node:fs/promises'
import { request } from 'node:https'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'
import { seal } from '../../src/identity/envelope.ts'
import { loadIdentity } from '../../src/identity/key-file.ts'
import { MEDIA_TYPES } from '../../src/identity/media-types.ts'
import { digestOf, utf8 } from '../../src/lib/bytes.ts'
import type { FlexMeshNode } from '../../src/node/node.ts'
import { Catalogue } from '../../src/store/catalogue.ts'
import { homePaths } from '../../src/store/home.ts'
import { founded } from '../support/command-homes.ts'
import { flexmesh, start } from '../support/command-line.ts'
import { cleanUp, folder } from '../support/folders.ts'
import { network, run } from '../support/network.ts'
import { shortText } from '../support/texts.ts'
import { tinyModel } from '../support/tiny-model.ts'

afterAll(cleanUp)

describe('flexmesh start', () => {
  it('prints the addresses of the node, and ends with 0 when it is interrupted', async () => {
    const node = start('start', '--home', await founded(), '--port', '0')
    await node.line('API     http://127.0.0.1:')
    const { code, stdout, stderr } = await node.interrupt()
    expect([code, stderr]).toEqual([0, ''])
    expect(stdout).toMatch(/^Hospital is up as 12D3Koo\w+$/m)
    expect(stdout).toMatch(/^network \/ip4\/127\.0\.0\.1\/tcp\/\d+\/p2p\/12D3Koo\w+$/m)
  })

  it('ends when it is interrupted before the node is up', async () => {
    const { code, stdout } = await start('start', '--home', await founded(), '--port', '0').interrupt()
    expect(code).toBe(0)
    expect(stdout).toContain('Hospital is up as')
  })

  it('answers web pages of the origins that --allow-origin lists', async () => {
    const origins = ['https://a.example', 'http://localhost:3000']
    const options = origins.flatMap((origin) => ['--allow-origin', origin])
    const node = start('start', '--home', await founded(), '--port', '0', ...options)
    const [, url] = /(http\S+),/.exec(await node.line('API     http://')) ?? []
    for (const origin of [...origins, 'https://evil.example']) {
      const { status, headers } = await fetch(`${url}/models`, { method: 'OPTIONS', headers: { origin } })
      const isListed = origins.includes(origin)
      expect([status, headers.get('access-control-allow-origin')]).toEqual(
        isListed ? [204, origin] : [401, null],
      )
    }
    expect((await node.interrupt()).code).toBe(0)
  })

  it('lets an answer end before it stops, and ends the events of the dashboard', async () => {
    const home = await founded()
    const node = start('start', '--home', home, '--port', '0', '--drain', '600')
    const [, url = ''] = /(http\S+)\/v1,/.exec(await node.line('API     http://')) ?? []
    const key = (await readFile(homePaths(home).apiKey, 'utf8')).trim()
    const [, link = ''] = /#enter=(\S+)/.exec((await flexmesh('dashboard', '--home', home)).stdout) ?? []
    const page = { 'x-flexmesh-page': '1', 'content-type': 'application/json' }
    const session = await fetch(`${url}/dashboard/session`, {
      method: 'POST',
      headers: page,
      body: JSON.stringify({ link }),
    })
    const cookie = session.headers.get('set-cookie')?.split(';')[0] ?? ''
    const events = await fetch(`${url}/dashboard/events`, { headers: { cookie } })
    const answer = await fetch(`${url}/v1/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'flexmesh', prompt: 'The', stream: true, max_tokens: 60 }),
    })
    const ended = node.interrupt()
    expect(await answer.text()).toContain('data: [DONE]')
    await events.text()
    expect((await ended).code).toBe(0)
  })

  it('prints one JSON object with --json', async () => {
    const node = start('start', '--home', await founded(), '--port', '0', '--json')
    const found = JSON.parse(await node.line('{')) as { peerId: string; addresses: string[]; api: string }
    const { stdout } = await node.interrupt()
    expect(stdout.split('\n')).toHaveLength(2)
    expect(found).toEqual({
      peerId: expect.stringMatching(/^12D3Koo/),
      addresses: [expect.stringContaining(found.peerId)],
      api: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+\/v1$/),
    })
  })

  it('prints what happens in the node', async () => {
    const net = await network(['Archive'], await tinyModel())
    const [node] = net.nodes as [FlexMeshNode]
    await run(node, 'train', { name: 'law', data: [await shortText('archive')], steps: 1 })
    await run(node, 'publish', { name: 'law' })
    await net.close()
    const home = net.homes[0] as string
    const running = start('start', '--home', home, '--port', '0')
    await running.line('is up as')
    expect((await flexmesh('refuse', 'law', '--home', home)).code).toBe(0)
    const { stdout } = await running.interrupt()
    const reason = 'refused-by-operator (the operator of this node refused it)'
    expect(stdout).toContain(`\nrefused a package of Archive: ${reason}\n`)
    expect(stdout).toMatch(/\ncomposition [0-9a-f]{12}: public model\n/)
  })
})

describe('flexmesh status --watch', () => {
  it('shows the running node until it is interrupted', async () => {
    const home = await founded()
    const node = start('start', '--home', home, '--port', '0')
    await node.line('is up as')
    const watching = start('status', '--watch', '--home', home)
    await watching.line('peer id')
    expect(await watching.interrupt()).toMatchObject({ code: 0, stderr: '' })
    expect((await node.interrupt()).code).toBe(0)
  })

  it('needs a running node', async () => {
    const home = await founded()
    const { code, stdout, stderr } = await flexmesh('status', '--watch', '--home', home)
    expect([code, stdout]).toEqual([1, ''])
    expect(stderr).toContain(`start it with "flexmesh start --home ${home}", or leave out --watch`)
  })
})

describe('the API for other machines', () => {
  it('is opened by --listen-api with TLS, and printed', async () => {
    const tls = fileURLToPath(new URL('../fixtures/tls/', import.meta.url))
    const files = ['--tls-cert', join(tls, 'cert.pem'), '--tls-key', join(tls, 'key.pem')]
    const options = ['--listen-api', '127.0.0.1:0', ...files, '--allowed-host', 'llm.example.org']
    const node = start('start', '--home', await founded(), '--port', '0', ...options)
    const line = await node.line('for other machines')
    const [, port] = /on port (\d+), with a key on every route/.exec(line) ?? []
    const ca = await readFile(join(tls, 'cert.pem'))
    const answered = await new Promise((resolve, reject) => {
      const headers = { host: 'llm.example.org' }
      const asked = request({
        host: '127.0.0.1',
        port,
        path: '/healthz',
        servername: 'localhost',
        ca,
        headers,
      })
      asked.on('response', ({ statusCode }) => resolve(statusCode))
      asked.on('error', reject)
      asked.end()
    })
    expect(answered).toBe(401)
    expect((await node.interrupt()).code).toBe(0)
  })

  it('is refused without TLS before anything starts', async () => {
    const { code, stdout, stderr } = await flexmesh(
      'start',
      '--home',
      await founded(),
      '--listen-api',
      '10.0.0.5',
    )
    expect([code, stdout]).toEqual([2, ''])
    expect(stderr).toContain('--listen-api 10.0.0.5: other machines could read prompts, answers and keys')
  })
})

describe('the log of flexmesh start', () => {
  it('has the levels that --log-level names, and refuses others with the list', async () => {
    const { code, stderr } = await flexmesh('start', '--home', await founded(), '--log-level', 'verbose')
    expect(code).toBe(2)
    expect(stderr).toBe(
      'flexmesh: --log-level: expected one of error, warn, info, debug, trace, got "verbose"\n',
    )
  })

  it.each([
    ['error', ''],
    ['warn', expect.stringMatching(/^\S+Z warn \w+: a statement in the log cannot be read[^\n]*\n$/)],
  ])('goes to stderr: level %s', async (level, expected) => {
    const home = await founded()
    await appendBrokenWithdrawal(home)
    const node = start('start', '--home', home, '--port', '0', '--log-level', level)
    await node.line('is up as')
    expect((await node.interrupt()).stderr).toEqual(expected)
  })

  it('is JSON with --log-format json, events included', async () => {
    const home = await founded()
    const node = start('start', '--home', home, '--port', '0', '--log-format', 'json')
    const [, url] = /(http\S+),/.exec(await node.line('API     http://')) ?? []
    const key = (await readFile(homePaths(home).apiKey, 'utf8')).trim()
    const { headers } = await fetch(`${url}/models`, { headers: { authorization: `Bearer ${key}` } })
    await node.line('GET /v1/models')
    const { stderr } = await node.interrupt()
    const lines = stderr
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>)
    expect(lines).toContainEqual({
      time: expect.stringMatching(/^\d{4}-/),
      level: 'info',
      part: 'api',
      requestId: headers.get('x-request-id'),
      msg: expect.stringMatching(
        /^GET \/v1\/models: 200 to API key [\da-f]{12} after \d+ ms, 0 tokens, \d+ bytes$/,
      ),
    })
  })
})

/** A statement in the log of a home that has no effect but a line in the log of its node. */
async function appendBrokenWithdrawal(home: string): Promise<void> {
  const identity = await loadIdentity(homePaths(home).key)
  const payload = utf8('{}')
  const envelope = seal(MEDIA_TYPES.withdrawal, payload, [identity])
  const catalogue = await Catalogue.open(home)
  await catalogue.append({ publisher: identity.peerId, seq: 1, digest: digestOf(payload), envelope })
  await catalogue.close()
}

it('flexmesh doctor --link-tensorflow refuses a Python without TensorFlow, with the next command', async () => {
  const python = join(await folder(), 'python')
  await writeFile(python, '#!/bin/sh\necho\n', { mode: 0o755 })
  const { code, stdout, stderr } = await flexmesh('doctor', '--link-tensorflow', python)
  expect([code, stdout]).toEqual([1, ''])
  expect(stderr).toContain(`has no TensorFlow; run ${python} -m pip install tensorflow-cpu`)
})
