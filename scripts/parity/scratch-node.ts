/** A node that founds a consortium around the small model, without a network, for checks against other programs. */
import { fileURLToPath } from 'node:url'
import { nodeCommands } from '../../src/commands/table.ts'
import { createConsortium, initHome } from '../../src/node/found.ts'
import { FlexMeshNode } from '../../src/node/node.ts'
import { onnxEngine } from '../../src/tensor/onnx-engine.ts'

/** Folder of the small model. */
export const SMALL_MODEL = fileURLToPath(new URL('../../models/small', import.meta.url))
const now = (): number => Math.floor(Date.now() / 1000)

interface ScratchOptions {
  /** Folder of the public model; default the small model. */
  readonly modelDir?: string
  /** Maximum number of experts that are active for one token; default the node's. */
  readonly topK?: number
}

export async function scratchNode(
  home: string,
  institution: string,
  { modelDir = SMALL_MODEL, topK }: ScratchOptions = {},
): Promise<FlexMeshNode> {
  const settings = { institution, listen: [], bootstrap: [], mdns: false }
  await initHome(home, settings, { inTheClear: true })
  await createConsortium({ home, now }, { modelDir, name: 'Parity' })
  // Exports route by router rows, so the node that they are compared with must do so, too.
  const init = { home, engine: onnxEngine(), now, router: 'rows' } as const
  return FlexMeshNode.open(topK === undefined ? init : { ...init, topK })
}

/** Runs a command of a node to its end. */
export async function runCommand(node: FlexMeshNode, command: string, args: unknown): Promise<unknown> {
  const run = nodeCommands(node)[command]?.(args, new AbortController().signal)
  if (run === undefined) throw new Error(`no command ${command}`)
  for (;;) {
    const { done, value } = await run.next()
    if (done === true) return value
  }
}
