import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readSafetensors, toFloat32 } from '../../src/checkpoint/safetensors.ts'
import { parseCommandLine } from '../../src/cli/arguments.ts'
import { runCommand } from '../../src/cli/run.ts'
import { nodeCommands } from '../../src/commands/table.ts'
import { limit } from '../../src/lib/limits.ts'
import { materialised } from '../../src/model/low-rank.ts'
import { expertRank } from '../../src/model/params.ts'
import type { FlexMeshNode } from '../../src/node/node.ts'
import { type Manifest, openManifest } from '../../src/packaging/manifest.ts'
import { type Control, startControl } from '../../src/serving/control.ts'
import { cleanUp, EXAMPLES, folder } from '../support/folders.ts'
import { network, type TestNetwork, type Watch } from '../support/network.ts'
import { TINY, tinyModel } from '../support/tiny-model.ts'

let watch: Watch
const controls: Control[] = []
let net: TestNetwork
let hospital: FlexMeshNode
let archive: FlexMeshNode

beforeAll(async () => {
  net = await network(['Hospital', 'Archive'], await tinyModel())
  watch = net.watch
  ;[hospital, archive] = net.nodes as [FlexMeshNode, FlexMeshNode]
  for (const node of net.nodes) controls.push(await startControl(node.paths.control, nodeCommands(node)))
}, 300_000)
afterAll(async () => {
  for (const control of controls) await control.close()
  await net?.close()
  await cleanUp()
})

/** A command line as it is typed, in the running node of a home. */
async function flexmesh<T>(node: FlexMeshNode, ...argv: string[]): Promise<{ result: T; lines: string }> {
  let found: { result: unknown; lines: string } | undefined
  const output = {
    json: true,
    style: { color: false },
    say: () => undefined,
    progress: () => undefined,
    result: (result: unknown, lines: readonly string[]) => {
      found = { result, lines: lines.join('\n') }
    },
  }
  const invocation = parseCommandLine([...argv, '--home', node.paths.root])
  await runCommand(invocation, output, AbortSignal.timeout(300_000))
  return found as { result: T; lines: string }
}

const train = (node: FlexMeshNode, name: string, text: string, ...more: string[]) =>
  flexmesh(node, 'train', '--name', name, '--data', join(EXAMPLES, text, 'text'), '--steps', '3', ...more)

async function manifestOf(node: FlexMeshNode, id: string): Promise<Manifest> {
  const envelope = await node.catalogue.statement(id as Manifest['consortium'])
  return openManifest(envelope as Uint8Array).manifest
}

describe('experts of low rank on the command line', () => {
  it('are trained so, published, accepted by another node, composed and asked', async () => {
    await train(hospital, 'biomedicine', 'hospital', '--rank', '4')
    const { result } = await flexmesh<{ id: string }>(hospital, 'publish', 'biomedicine')
    const manifest = await manifestOf(hospital, result.id)
    expect(manifest.expert).toMatchObject({
      rank: 4,
      hidden_size: 16,
      intermediate_size: 24,
      bias: false,
      statisticsTokens: TINY.vocabSize,
    })
    expect(manifest.expert.statisticsDocuments).toBeGreaterThanOrEqual(limit('statisticsDocuments'))
    await watch.until('the expert elsewhere', () => archive.accepted.list().length === 1)
    expect(expertRank(archive.accepted.list()[0]?.expert ?? { ffn: new Map() })).toBe(4)
    const answer = await flexmesh<{ experts: { institution: string; share: number }[] }>(
      archive,
      'generate',
      'The protein',
      '--max-tokens',
      '8',
    )
    const shares = Object.fromEntries(
      answer.result.experts.map(({ institution, share }) => [institution, share]),
    )
    expect(shares['Hospital']).toBeGreaterThan(0)
  }, 300_000)

  it('are cut out of whole ones, with a word on what is left and scores of what was published', async () => {
    await train(archive, 'law', 'archive')
    const { result, lines } = await flexmesh<{ id: string; energyKept: number; own: { after: number } }>(
      archive,
      'publish',
      'law',
      '--rank',
      '2',
    )
    expect(result.energyKept).toBeGreaterThan(0)
    expect(result.energyKept).toBeLessThan(1)
    expect(lines).toContain(
      `rank 2 keeps ${(100 * result.energyKept).toFixed(1)} % of the difference's energy`,
    )
    const { expert, files, eval: scores } = await manifestOf(archive, result.id)
    expect(expert).toMatchObject({ rank: 2, statisticsTokens: TINY.vocabSize })
    expect(files[0].size - 4 * TINY.vocabSize).toBeLessThan(2 * 3 * 16 * 24 * 2)
    const own = scores.find(({ set }) => set === 'own')
    expect(own?.after).toBe(Math.round(result.own.after * 1e6))
    await watch.until('both experts on both nodes', () =>
      net.nodes.every((node) => node.accepted.list().length === 2),
    )
    const [first, second] = net.nodes.map((node) => node.composer.served.composition)
    expect(first?.digest).toBe(second?.digest)
    expect(first?.router).toBe('solved')
  }, 300_000)

  it('leave the node as whole weights', async () => {
    const [huggingFace, onnx] = [join(await folder(), 'model'), join(await folder(), 'onnx')]
    await flexmesh(hospital, 'compose', '--export', huggingFace, '--export-onnx', onnx)
    const { tensors } = readSafetensors(await readFile(join(huggingFace, 'model.safetensors')))
    for (const [i, { expert }] of hospital.composer.served.composition.experts.entries()) {
      for (const [key, { data, shape }] of materialised(expert, hospital.publicModel.params).ffn) {
        const [layer, projection] = key.split('.')
        const name = `model.layers.${layer}.mlp.experts.${i + 1}.${projection}.weight`
        const tensor = tensors.get(name)
        if (tensor === undefined) throw new Error(`${name} is missing`)
        expect([name, tensor.shape, toFloat32(tensor)]).toEqual([name, shape, data])
      }
    }
    expect([...tensors.keys()].filter((name) => name.includes('lora'))).toEqual([])
    expect(await readFile(join(huggingFace, 'README.md'), 'utf8')).toMatch(
      /whole float32 weights.*rank (2|4)/,
    )
    expect((await readFile(join(onnx, 'model.onnx.data'))).length).toBeGreaterThan(3 * 2 * 3 * 16 * 24 * 4)
  }, 300_000)

  it.each([
    [['train', '--name', 'other', '--data', EXAMPLES, '--rank', '17'], /1 to 16/],
    [['train', '--name', 'biomedicine', '--rank', '3'], /--rank/],
    [['train', '--name', 'biomedicine'], /--rank/],
    [['publish', 'biomedicine', '--rank', '4'], /trained at rank 4/],
    [['train', '--name', 'other', '--rank', '2', '--export-pair', 'pair'], /publish/],
  ])(
    'refuse %j',
    async (argv, message) => {
      await expect(flexmesh(hospital, ...argv)).rejects.toThrow(message)
    },
    300_000,
  )
})
