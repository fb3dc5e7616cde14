/** Experts of low rank, from the command line of one node to the composition of another. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readSafetensors, toFloat32 } from '../../src/checkpoint/safetensors.ts'
import { parseCommandLine } from '../../src/cli/arguments.ts'
import { runCommand } from '../../src/cli/run.ts'
import { nodeCommands } from '../../src/commands/table.ts'
import type { Digest } from '../../src/lib/bytes.ts'
import { limit } from '../../src/lib/limits.ts'
import { materialised } from '../../src/model/merged-weight.ts'
import { expertRank } from '../../src/model/params.ts'
import { wholeValues } from '../../src/model/weights.ts'
import type { FlexMeshNode } from '../../src/node/node.ts'
import { type Manifest, openManifest } from '../../src/packaging/manifest.ts'
import { type Control, startControl } from '../../src/serving/control.ts'
import { cleanUp, EXAMPLES, folder } from '../support/folders.ts'
import { network, type TestNetwork } from '../support/network.ts'
import { shortText } from '../support/texts.ts'
import { TINY, tinyModel } from '../support/tiny-model.ts'

interface Published {
  readonly id: Digest
  readonly energyKept: number
  readonly own: { readonly after: number }
}

let net: TestNetwork
const controls: Control[] = []
let hospital: FlexMeshNode
let archive: FlexMeshNode
/** Trained at rank 4 by the hospital. */
let trainedAtRank: Published
/** Trained whole by the archive, and cut to rank 2 when it was published. */
let cut: { readonly result: Published; readonly lines: string }

beforeAll(async () => {
  net = await network(['Hospital', 'Archive'], await tinyModel())
  ;[hospital, archive] = net.nodes as [FlexMeshNode, FlexMeshNode]
  for (const node of net.nodes) controls.push(await startControl(node.paths.control, nodeCommands(node)))
  await net.connected()
  const medicine = await shortText('hospital')
  await flexmesh(hospital, 'train', '--name', 'medicine', '--data', medicine, '--steps', '3', '--rank', '4')
  trainedAtRank = (await flexmesh<Published>(hospital, 'publish', 'medicine')).result
  await flexmesh(archive, 'train', '--name', 'law', '--data', await shortText('archive'), '--steps', '3')
  cut = await flexmesh<Published>(archive, 'publish', 'law', '--rank', '2')
  await net.accepted(2)
})
afterAll(async () => {
  for (const control of controls) await control.close()
  await net?.close()
  await cleanUp()
})

/** Run a command line in the running node of a home. */
async function flexmesh<T>(node: FlexMeshNode, ...argv: string[]): Promise<{ result: T; lines: string }> {
  let found: { result: unknown; lines: string } | undefined
  const output = {
    json: true,
    homeOptions: [],
    style: { color: false },
    say: () => undefined,
    progress: () => undefined,
    screen: () => undefined,
    interactive: false,
    ask: async () => false,
    log: () => undefined,
    result: (result: unknown, lines: readonly string[]) => {
      found = { result, lines: lines.join('\n') }
    },
  }
  const { command, invocation } = await parseCommandLine([...argv, '--home', node.paths.root])
  await runCommand(command, invocation, output, new AbortController().signal)
  return found as { result: T; lines: string }
}

/** The manifest of a package, as the log of a node holds it. */
async function manifestOf(node: FlexMeshNode, id: Digest): Promise<Manifest> {
  return openManifest((await node.catalogue.statement(id)) as Uint8Array).manifest
}

describe('an expert that was trained at rank 4', () => {
  it('says so in its manifest, and has router statistics', async () => {
    const { expert } = await manifestOf(hospital, trainedAtRank.id)
    expect(expert).toMatchObject({
      rank: 4,
      hidden_size: TINY.hiddenSize,
      intermediate_size: TINY.intermediateSize,
      bias: false,
      statisticsTokens: TINY.vocabSize,
    })
    expect(expert.statisticsDocuments).toBeGreaterThanOrEqual(limit('statisticsDocuments'))
  })

  it('has rank 4 at other members too, and takes part in their answers', async () => {
    const received = archive.accepted.list().find(({ id }) => id === trainedAtRank.id)
    expect(expertRank(received?.expert ?? { ffn: new Map() })).toBe(4)
    const { result } = await flexmesh<{ experts: { institution: string; share: number }[] }>(
      archive,
      ...['generate', 'The protein', '--max-tokens', '8'],
    )
    const shares = new Map(result.experts.map(({ institution, share }) => [institution, share]))
    expect(shares.get('Hospital')).toBeGreaterThan(0)
  })
})

describe('an expert that was trained whole and cut to rank 2', () => {
  it('is published with the share of the difference that is left', () => {
    const { energyKept } = cut.result
    expect(energyKept).toBeGreaterThan(0)
    expect(energyKept).toBeLessThan(1)
    expect(cut.lines).toContain(`rank 2 keeps ${(100 * energyKept).toFixed(1)} % of the difference's energy`)
  })

  it('has the size of its factors, and the scores of what was published', async () => {
    const { expert, files, eval: scores } = await manifestOf(archive, cut.result.id)
    expect(expert).toMatchObject({ rank: 2, statisticsTokens: TINY.vocabSize })
    const { hiddenSize, intermediateSize, numHiddenLayers, vocabSize } = TINY
    const wholeBytes = 2 * numHiddenLayers * 3 * hiddenSize * intermediateSize
    expect(files[0].size - 4 * vocabSize).toBeLessThan(wholeBytes)
    const own = scores.find(({ set }) => set === 'own')
    expect(own?.after).toBe(Math.round(cut.result.own.after * 1e6))
  })
})

describe('a composition of low-rank experts', () => {
  it('is the same at every member, with a solved router', () => {
    const [first, second] = net.nodes.map((node) => node.composer.served.composition)
    expect(first?.digest).toBe(second?.digest)
    expect(first?.router).toBe('solved')
  })

  it('is exported as whole weights', async () => {
    const [huggingFace, onnx] = [join(await folder(), 'model'), join(await folder(), 'onnx')]
    await flexmesh(hospital, 'compose', '--export', huggingFace, '--export-onnx', onnx)
    const { tensors } = readSafetensors(await readFile(join(huggingFace, 'model.safetensors')))
    for (const [i, { expert }] of hospital.composer.served.composition.experts.entries()) {
      for (const [key, weight] of materialised(expert, hospital.publicModel.weights).ffn) {
        const [layer, projection] = key.split('.')
        const name = `model.layers.${layer}.mlp.experts.${i + 1}.${projection}.weight`
        const tensor = tensors.get(name)
        if (tensor === undefined) throw new Error(`${name} is missing`)
        expect([name, tensor.shape, toFloat32(tensor)]).toEqual([
          name,
          weight.shape,
          await wholeValues(weight),
        ])
      }
    }
    expect([...tensors.keys()].filter((name) => name.includes('lora'))).toEqual([])
    expect(await readFile(join(huggingFace, 'README.md'), 'utf8')).toMatch(
      /whole float32 weights.*rank (2|4)/,
    )
    expect((await readFile(join(onnx, 'model.onnx.data'))).length).toBeGreaterThan(3 * 2 * 3 * 16 * 24 * 4)
  })
})

describe('the option --rank', () => {
  it.each([
    [['train', '--name', 'other', '--data', EXAMPLES, '--rank', '17'], /1 to 16/],
    [['train', '--name', 'medicine', '--rank', '3'], /--rank/],
    [['train', '--name', 'medicine', '--rank', '0'], /--rank/],
    [['publish', 'medicine', '--rank', '4'], /trained at rank 4/],
    [['train', '--name', 'other', '--rank', '2', '--export-pair', 'pair'], /publish/],
  ])('is refused in %j', async (argv, message) => {
    await expect(flexmesh(hospital, ...argv)).rejects.toThrow(message)
  })
})
