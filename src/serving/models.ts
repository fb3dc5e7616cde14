/**
 * The models that the API names: the composition, and each of its experts alone. Implements protocols/inference-api,
 * section "Models". Knows nothing about routes and weights.
 */
import type { StatedExpert } from '../composition/attribution.ts'
import type { Selection } from '../composition/selection.ts'
import type { Digest } from '../lib/bytes.ts'
import { allowedInclude, type Caller, mayUse, notAllowed } from './callers.ts'
import type { Backend, ServingEngine } from './engine.ts'
import { MODEL_NAME } from './openai.ts'
import { Refusal } from './problem.ts'
import { bad } from './request-fields.ts'

/** A model in the list: the fields of vLLM's model card, and the experts. */
export interface ModelCard {
  readonly id: string
  readonly object: 'model'
  /** Unix seconds. */
  readonly created: number
  readonly owned_by: string
  /** Digest of the composition, or package id of the expert. */
  readonly root: string
  /** The model of the composition that an expert belongs to; null for the composition itself. */
  readonly parent: string | null
  /** Maximum number of tokens of prompt and answer together. */
  readonly max_model_len: number
  readonly flexmesh: {
    readonly composition: string
    readonly served_by: Backend['servedBy']
    readonly experts: readonly StatedExpert[]
  }
}

type PackagedExpert = StatedExpert & { readonly package: Digest }

function isPackaged(expert: StatedExpert): expert is PackagedExpert {
  return expert.package !== undefined
}

/** Id of the model that answers with one expert beside the public model. */
function modelId({ institution, expert }: StatedExpert): string {
  return `${MODEL_NAME}/${institution}/${expert}`
}

/** The backend for one expert. An upstream answers with all experts of its composition, so this is the node itself. */
export function backendForOne(backendFor: (selection: Selection) => Backend): Backend {
  return backendFor({ include: [] })
}

/**
 * The composition first, then the experts of the node that the caller may use.
 * @param caller undefined if the route decides itself who may ask
 * @param now Unix seconds
 * @throws ServingError.
 */
export async function modelCards(
  backendFor: (selection: Selection) => Backend,
  caller: Caller | undefined,
  now: number,
): Promise<ModelCard[]> {
  const whole = await described(backendFor({}), now)
  const { stated, card } = await described(backendForOne(backendFor), now)
  const publicModel = stated.filter((expert) => !isPackaged(expert))
  const experts = stated.filter(isPackaged).filter((expert) => mayUse(caller, expert))
  const root = whole.composition
  return [
    whole.card({ id: MODEL_NAME, owned_by: 'consortium', root, parent: null }, whole.stated),
    ...experts.map((expert) => {
      const { institution, package: id } = expert
      const own = { id: modelId(expert), owned_by: institution, root: id, parent: MODEL_NAME }
      return card(own, [...publicModel, expert])
    }),
  ]
}

/** What a backend serves now, and how its models are described. */
async function described(
  backend: Backend,
  created: number,
): Promise<
  Pick<ServingEngine, 'composition' | 'stated'> & {
    card(
      own: Pick<ModelCard, 'id' | 'owned_by' | 'root' | 'parent'>,
      experts: readonly StatedExpert[],
    ): ModelCard
  }
> {
  const engine = await backend.acquire()
  const { composition, stated, contextLength } = engine
  engine.release()
  return {
    composition,
    stated,
    card: (own, experts) => ({
      ...own,
      object: 'model',
      created,
      max_model_len: contextLength,
      flexmesh: { composition, served_by: backend.servedBy, experts },
    }),
  }
}

/** The members of a request that choose experts. */
interface ExpertRequest extends Selection {
  readonly model: string
}

/**
 * The request with the experts that its model stands for and its caller may use.
 * @throws Refusal `model_not_found`, `expert_not_allowed`; FormatError; ServingError.
 */
export async function resolveRequest<T extends ExpertRequest>(
  request: T,
  caller: Caller | undefined,
  backendFor: (selection: Selection) => Backend,
): Promise<T> {
  const isWhole = request.model === MODEL_NAME
  if (isWhole && caller?.experts === undefined) return request
  if (!isWhole && !request.model.startsWith(`${MODEL_NAME}/`)) throw modelNotFound(request.model)
  const engine = await (isWhole ? backendFor({}) : backendForOne(backendFor)).acquire()
  try {
    if (!isWhole) return resolveModel(request, engine, caller)
    const include = caller && allowedInclude(caller, request.include, engine.experts)
    return include === undefined ? request : { ...request, include }
  } finally {
    engine.release()
  }
}

/**
 * A request with the experts that its model stands for: an expert's model is a selection of its package.
 * @param engine holds the composition that the node serves now
 * @throws Refusal `model_not_found`, `expert_not_allowed`; FormatError `bad-field` for a request that names the model of
 * an expert and selects experts, too.
 */
export function resolveModel<T extends ExpertRequest>(
  request: T,
  engine: Pick<ServingEngine, 'stated'>,
  caller: Caller | undefined,
): T {
  const { model, include, exclude } = request
  if (model === MODEL_NAME) return request
  const found = engine.stated.filter(isPackaged).filter((expert) => modelId(expert) === model)
  const [expert] = found
  if (expert === undefined) throw modelNotFound(model)
  if (!mayUse(caller, expert)) throw notAllowed(caller, model, 'model')
  if (include !== undefined || exclude !== undefined)
    throw bad('experts', `no selection, because the model is one expert; use the model "${MODEL_NAME}"`)
  return { ...request, include: found.map((one) => one.package) }
}

export function modelNotFound(name: string): Refusal {
  return new Refusal({
    status: 404,
    code: 'model_not_found',
    message: `model "${name}" does not exist; "${MODEL_NAME}" does, and GET /v1/models lists the models of its experts`,
    param: 'model',
  })
}
