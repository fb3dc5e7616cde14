/**
 * Acts on damage that the slow verification of stored files finds: a damaged package leaves the composition and is
 * fetched again; a damaged public model ends the node, because everything is computed from it.
 */
import { join } from 'node:path'
import type { InputError } from '../lib/errors.ts'
import { fileRefOfPath } from '../lib/file-ref.ts'
import { queued } from '../pipeline/judging.ts'
import type { Parts } from '../pipeline/parts.ts'
import type { Catalogue } from '../store/catalogue.ts'
import { FileVerifier, type StoredFile } from '../store/file-verifier.ts'
import { damagedError, markDamaged } from './public-model-damage.ts'

export interface VerificationInit {
  readonly parts: Parts
  readonly catalogue: Catalogue
  /** Folder of the public model. */
  readonly publicModel: string
  /** Called if the public model is damaged. */
  readonly onEnd: (error: InputError) => void
}

/** Files of the public model come first, since all computations need them. */
const PUBLIC = '0 '
const PACKAGE = '1 '

/** The verifier of a node's files: those of the public model and of the packages in use. */
export function verifierOf({ parts, catalogue, publicModel, onEnd }: VerificationInit): FileVerifier {
  const { accepted, blobs, membership, log, signal } = parts
  const publicFiles = membership.charter.publicModel.files.map(
    (ref): StoredFile => ({ key: PUBLIC + ref.name, path: join(publicModel, ref.name), ref }),
  )
  const packageFiles = (): StoredFile[] =>
    accepted.manifests().map(({ manifest: { files } }) => {
      const [ref] = files
      return { key: PACKAGE + ref.sha256, path: blobs.path(ref.sha256), ref }
    })
  return new FileVerifier({
    catalogue,
    files: () => [...publicFiles, ...packageFiles()],
    chunkHashes: (ref, inner) => blobs.chunkHashesOf(ref, inner),
    onDamage: async (file, reason) => {
      if (file.key.startsWith(PACKAGE)) return fetchAgain(parts, file, reason)
      // Its chunk hashes are those of the store's copy, which may be the damaged one.
      const { ref } = await fileRefOfPath(file.path, signal)
      if (ref.sha256 === file.ref.sha256) return
      await markDamaged(catalogue, file.key.slice(PUBLIC.length))
      const error = damagedError(file.path)
      log.error(error.message, error)
      onEnd(error)
    },
    onFailure: (error) => log.warn('stored files could not be verified; the next start goes on', error),
    signal,
  })
}

async function fetchAgain(parts: Parts, { ref }: StoredFile, reason: string): Promise<void> {
  const { accepted, composer, queue, log } = parts
  const packages = await accepted.setAside(ref.sha256)
  for (const { id, manifest } of packages) {
    log.warn(
      `the disk has damaged the file of package ${id} (${manifest.expert.name}): ${reason}; it is fetched again`,
    )
  }
  await composer.recompose()
  for (const opened of packages) queue.add(queued(opened), true)
}
