/** Three institutions found a consortium together: a charter travels as a file until all have signed it. */
import { cp, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeEach, describe, expect, it } from 'vitest'
import { FlexMeshNode } from '../../src/node/node.ts'
import { onnxEngine } from '../../src/tensor/onnx-engine.ts'
import { type Ended, flexmesh } from '../support/command-line.ts'
import { cleanUp, folder } from '../support/folders.ts'
import { tinyModel } from '../support/tiny-model.ts'

interface Founder {
  readonly home: string
  readonly name: string
  readonly peerId: string
}

let founders: readonly [Founder, Founder, Founder]
/** The file that travels. */
let charter: string
let model: string

afterAll(cleanUp)
beforeEach(async () => {
  model = await tinyModel()
  charter = join(await folder(), 'charter.json')
  founders = [await initialised('Hospital'), await initialised('Archive'), await initialised('Court')]
})

async function initialised(name: string, isKeyOutside = false): Promise<Founder> {
  const dir = await folder()
  const home = join(dir, 'home')
  const outside = isKeyOutside ? ['--institution-key', join(dir, 'stick.key')] : []
  const ended = await flexmesh(
    ...['init', '--home', home, '--institution', name, '--insecure', '--no-mdns', '--json'],
    ...['--listen', '/ip4/127.0.0.1/tcp/0', ...outside],
  )
  return { home, name, peerId: JSON.parse(ended.stdout).peerId }
}

function create(others: readonly Pick<Founder, 'name' | 'peerId'>[]): Promise<Ended> {
  const together = others.flatMap(({ name, peerId }) => ['--with', `${name}=${peerId}`])
  return flexmesh(
    ...['consortium', 'create', '--home', founders[0].home, '--public-model', model, '--name', 'Test'],
    ...[...together, '--charter', charter],
  )
}

function sign({ home }: Founder, dir = model): Promise<Ended> {
  return flexmesh('consortium', 'sign', charter, '--home', home, '--public-model', dir)
}

const failure = async (ended: Promise<Ended>): Promise<string> => {
  const { code, stderr } = await ended
  expect(code).not.toBe(0)
  return stderr
}

describe('three institutions that found together', () => {
  it('are members of one consortium once all have signed, and none before', async () => {
    const [hospital, archive, court] = founders
    expect((await create([archive, court])).stdout).toContain('it is no consortium yet')
    expect(await failure(flexmesh('status', '--home', hospital.home))).toContain('belongs to no consortium')
    const shown = await flexmesh('consortium', 'sign', charter, '--home', court.home)
    expect(shown.stdout).toMatch(
      /decisions: admit majority members, .*\nnot signed yet: Archive, Court\nthis has signed nothing/,
    )
    expect((await sign(court)).stdout).toContain('not signed yet: Archive')
    const last = await sign(archive)
    expect(last.stdout).toContain('all founders have signed; this home belongs to the consortium')
    for (const founder of [hospital, court]) {
      expect((await sign(founder)).stdout).toContain(
        'all founders have signed; this home belongs to the consortium',
      )
    }
    const nodes = await Promise.all(
      founders.map(({ home }) =>
        FlexMeshNode.open({
          home,
          engine: onnxEngine({ threads: 1 }),
          now: () => Math.floor(Date.now() / 1000),
        }),
      ),
    )
    try {
      expect(new Set(nodes.map(({ consortium }) => consortium)).size).toBe(1)
      expect(nodes.map(({ membership }) => membership.seat)).toEqual(founders.map(({ peerId }) => peerId))
      await Promise.all(nodes.map((node) => node.start()))
      const [first, ...others] = nodes as [FlexMeshNode, ...FlexMeshNode[]]
      const [address] = first.addresses() as [string]
      for (const node of others) await node.connect(address, AbortSignal.timeout(20_000))
      expect(first.membership.roster().members.map(({ institution }) => institution)).toEqual([
        'Hospital',
        'Archive',
        'Court',
      ])
      expect(others.map((node) => node.connectedMembers().includes(hospital.peerId))).toEqual([true, true])
    } finally {
      await Promise.all(nodes.map((node) => node.close()))
    }
  })

  it('refuse a file that names them otherwise, that was changed, or beside which another model lies', async () => {
    const [hospital, archive, court] = founders
    await create([archive, { name: 'Tribunal', peerId: court.peerId }])
    expect(await failure(sign(court))).toMatch(
      /expected a founder Court with the key 12D3KooW\w+, got Hospital .*Tribunal/,
    )
    await create([archive, court])
    const other = join(await folder(), 'model')
    await cp(model, other, { recursive: true })
    await writeFile(join(other, 'replay.jsonl'), `${JSON.stringify({ text: 'Another text. '.repeat(50) })}\n`)
    expect(await failure(sign(court, other))).toContain('its files are not those of the public model')
    const keyOutside = await initialised('Clinic', true)
    expect(await failure(sign(keyOutside))).toMatch(
      /the institution key lies in .*flexmesh key delegate --institution-key FILE/,
    )
    const text = await readFile(charter, 'utf8')
    const { payload, ...rest } = JSON.parse(text) as { payload: string }
    const changed = Buffer.from(
      Buffer.from(payload, 'base64').toString().replace('"name":"Test"', '"name":"Best"'),
    )
    await writeFile(charter, JSON.stringify({ payload: changed.toString('base64'), ...rest }))
    expect(await failure(sign(court))).toMatch(/the signature of 12D3KooW\w+ does not verify/)
    expect(await failure(create([]))).toContain('--with and --charter belong together')
    expect(await failure(create([{ name: 'Hospital', peerId: hospital.peerId }]))).toContain('founders')
  })
})
