/** Members cosign each other's logs, and an outsider checks them: real nodes on loopback. */
import { spawnSync } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, it } from 'vitest'
import { utf8 } from '../../src/lib/bytes.ts'
import type { FlexMeshNode } from '../../src/node/node.ts'
import { encodeCheckpoint, originOf } from '../../src/transparency/checkpoint.ts'
import { EMPTY_ROOT } from '../../src/transparency/merkle.ts'
import { encodeNote, signText } from '../../src/transparency/note.ts'
import { flexmesh } from '../support/command-line.ts'
import { cleanUp, folder } from '../support/folders.ts'
import { network, publish, run, type TestNetwork, train } from '../support/network.ts'
import { tinyModel } from '../support/tiny-model.ts'

/** What the command `log` reports of each member. */
interface Logs {
  readonly logs: readonly {
    readonly institution: string
    readonly statements: number
    readonly final: number
  }[]
}

/** The verifier in Python runs where there is a Python. */
const PYTHONS = ['python3'].filter((python) => spawnSync(python, ['--version']).status === 0)
const SCRIPT = fileURLToPath(new URL('../../scripts/verify-bundle.py', import.meta.url))

let net: TestNetwork
let nodes: FlexMeshNode[]
let bundle: string

const own = (node: FlexMeshNode): string => node.identity.peerId
const finalAt = (node: FlexMeshNode, of: FlexMeshNode): number => node.logs.finalSize(own(of))

/** Whether every node holds every log, and all statements of every log are final there. */
async function allFinal(): Promise<boolean> {
  for (const of of nodes) {
    const statements = (await of.catalogue.tip(own(of)))?.seq ?? 0
    if (!nodes.every((node) => finalAt(node, of) === statements)) return false
  }
  return true
}

beforeAll(async () => {
  net = await network(['Hospital', 'Archive', 'Court'], await tinyModel())
  nodes = net.nodes
  const [hospital] = nodes as [FlexMeshNode]
  await net.connected()
  await train(hospital, 'biomedicine', 'hospital')
  await publish(hospital, 'biomedicine')
  await run(hospital, 'withdraw', { name: 'biomedicine' })
  await net.watch.until('every statement to be final at every node', allFinal)
  await net.watch.until('cosignatures of both others on every log', () =>
    nodes.every((node) =>
      nodes.every((of) => (node.logs.notes.cosigned(own(of), 'final')?.cosigners.length ?? 0) === 2),
    ),
  )
  bundle = join(await folder(), 'consortium.audit')
  return async () => {
    await net.close()
    await cleanUp()
  }
})

describe('members that are connected', () => {
  it('make statements final, and say so', async () => {
    for (const node of nodes) {
      const { logs } = await run<Logs>(node, 'log')
      expect(logs.map(({ institution }) => institution)).toEqual(['Hospital', 'Archive', 'Court'])
      expect(logs.map(({ final }) => final)).toEqual(logs.map(({ statements }) => statements))
      // At least the package, its withdrawal, and the receipts of the others.
      expect(logs.map(({ final }) => final > 0)).toEqual([true, true, true])
    }
  })

  it('export what an outsider can check without a node, and what an edit breaks', async () => {
    const [hospital, archive] = nodes as [FlexMeshNode, FlexMeshNode]
    const exported = await run<{ incomplete?: string }>(archive, 'audit export', { file: bundle })
    expect(exported.incomplete).toBeUndefined()
    const verified = await flexmesh('audit', 'verify', bundle, '--consortium', hospital.consortium)
    expect(verified.stdout).toMatch(/Hospital +\d+ statements +\d+ final +cosigned by Archive, Court/)
    const other = await flexmesh('audit', 'verify', bundle, '--consortium', `sha256:${'0'.repeat(64)}`)
    expect([other.code, other.stderr]).toEqual([1, expect.stringContaining('wrong-consortium')])
    const text = await readFile(bundle, 'utf8')
    await writeFile(`${bundle}.edited`, text.replace(/"statements":\d+/, '"statements":1'))
    const edited = await flexmesh('audit', 'verify', `${bundle}.edited`)
    expect([edited.code, edited.stderr]).toEqual([1, expect.stringContaining('wrong-digest')])
  })

  it.each(PYTHONS)('export what a short script in %s checks, too', async (python) => {
    const [hospital, archive] = nodes as [FlexMeshNode, FlexMeshNode]
    await run(archive, 'audit export', { file: `${bundle}.python` })
    const checked = spawnSync(python, [SCRIPT, `${bundle}.python`, hospital.consortium], {
      encoding: 'utf8',
    })
    expect(checked.stderr).toBe('')
    expect(checked.stdout).toMatch(/Hospital: \d+ statements, \d+ final, cosigned by Archive, Court/)
  })

  it('demand the cosignatures of a policy, if the auditor has one', async () => {
    const [, archive, court] = nodes as [FlexMeshNode, FlexMeshNode, FlexMeshNode]
    const file = `${bundle}.policy-test`
    await run(archive, 'audit export', { file })
    const { logs } = await run<{ logs: { institution: string; witnessKey: string }[] }>(court, 'log')
    const key = (name: string): string =>
      logs.find(({ institution }) => institution === name)?.witnessKey ?? ''
    const verify = async (policy: string): Promise<number> => {
      await writeFile(`${file}.txt`, policy)
      return (await flexmesh('audit', 'verify', file, '--policy', `${file}.txt`)).code
    }
    // No member cosigns its own log, so a policy of one member cannot cover its log.
    expect(await verify(`witness H ${key('Hospital')}\nquorum H\n`)).toBe(1)
    const any = ['Hospital', 'Archive', 'Court'].map((name, i) => `witness W${i} ${key(name)}\n`).join('')
    expect(await verify(`${any}group G 2 W0 W1 W2\nquorum G\n`)).toBe(0)
    expect(await verify(`${any}group G all W0 W1 W2\nquorum G\n`)).toBe(1)
  })
})

describe('a member', () => {
  it('keeps what is final over a restart, and finds its statements final when the others return', async () => {
    const away = [1, 2]
    await Promise.all(away.map((i) => (nodes[i] as FlexMeshNode).close()))
    const [hospital] = nodes as [FlexMeshNode]
    const before = finalAt(hospital, hospital)
    await train(hospital, 'law', 'archive')
    await publish(hospital, 'law')
    expect(finalAt(hospital, hospital)).toBe(before)
    await Promise.all(away.map((i) => net.open(i)))
    const [, archive] = nodes as [FlexMeshNode, FlexMeshNode]
    expect(finalAt(archive, hospital)).toBeGreaterThanOrEqual(before)
    await net.watch.until('the last statement to be final', allFinal)
    expect(finalAt(archive, hospital)).toBeGreaterThan(before)
  })

  it('that signs checkpoints of two histories is found out, and nothing more of it is final', async () => {
    const [hospital, archive, court] = nodes as [FlexMeshNode, FlexMeshNode, FlexMeshNode]
    const origin = originOf(hospital.consortium, own(court))
    const size = court.logs.notes.cosigned(own(court), 'latest')?.checkpoint.size ?? 0
    const text = encodeCheckpoint({ origin, size, root: EMPTY_ROOT.slice().reverse() })
    const note = encodeNote({ text, signatures: [signText(origin, court.identity, text)] })
    await archive.logs.onNews({ publisher: own(court), note })
    expect(archive.logs.isContradicted(own(court))).toBe(true)
    const { logs } = await run<{ logs: { institution: string; contradiction?: string }[] }>(archive, 'log')
    const found = logs.find(({ institution }) => institution === 'Court')?.contradiction ?? ''
    expect(utf8(found)).toEqual(note)
  })
})

describe('a node that requires finality', () => {
  it('uses a package when enough members have cosigned its manifest, and says why it waits before', async () => {
    const strict = await network(['Hospital', 'Archive', 'Court'], await tinyModel(), { requireFinal: true })
    try {
      const [hospital, archive, court] = strict.nodes as [FlexMeshNode, FlexMeshNode, FlexMeshNode]
      await strict.connected()
      await court.close()
      await train(hospital, 'biomedicine', 'hospital')
      await publish(hospital, 'biomedicine')
      await strict.watch.until('a package that waits', async () =>
        (await archive.packages()).some(({ progress }) => progress?.kind === 'failed'),
      )
      const [waiting] = await archive.packages()
      expect(waiting?.progress).toMatchObject({ reason: expect.stringMatching(/^2 members must cosign/) })
      await strict.open(2)
      await strict.accepted(1)
      expect(archive.logs.finalSize(own(hospital))).toBe((await hospital.catalogue.tip(own(hospital)))?.seq)
    } finally {
      await strict.close()
    }
  })
})
