/** Every protocol's test vectors, by the name of its folder in protocols/. */
import { composition } from './composition.ts'
import { consortiumCharter } from './consortium-charter.ts'
import { expertPackage } from './expert-package.ts'
import { inferenceApi } from './inference-api.ts'
import { packageExchange } from './package-exchange.ts'
import { transparencyLog } from './transparency-log.ts'
import type { VectorSuite } from './vector.ts'

export const SUITES: Readonly<Record<string, VectorSuite>> = {
  'consortium-charter': consortiumCharter,
  'expert-package': expertPackage,
  'package-exchange': packageExchange,
  'transparency-log': transparencyLog,
  composition,
  'inference-api': inferenceApi,
}
