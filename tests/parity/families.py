"""The families of cases, each a recipe that draws one kind of cluster.

A recipe states what its family is about and leaves the rest to chance. Amounts are such that Ray's doubles are exact, except
in `float_edge`: there Ray is asked about the same amounts in 1/10,000 (see ray_answer.py).
"""

from world import GIB, GONE, World, selector

CPU_TYPES = [{"CPU": cpu} for cpu in (1, 2, 4, 8, 16, 32)]
MEMORY_TYPES = [{"CPU": cpu, "memory": cpu * ratio * GIB} for cpu in (1, 2, 4, 8, 16) for ratio in (2, 4, 8)]
GPU_TYPES = [{"CPU": cpu, "memory": cpu * 4 * GIB, "GPU": gpu} for cpu, gpu in ((4, 1), (8, 2), (16, 4), (32, 8))]
CUSTOM_TYPES = [{"CPU": 4, "tpu_slice": 1}, {"CPU": 8, "license": 2}, {"CPU": 2, "memory": 4 * GIB, "license": 1}]
ANY_TYPES = CPU_TYPES + MEMORY_TYPES + MEMORY_TYPES + GPU_TYPES + CUSTOM_TYPES
STRATEGIES = ["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"]
ZONES = ["a", "b", "c"]

FAMILIES = {}


def family(recipe):
    FAMILIES[recipe.__name__] = recipe
    return recipe


def groups(world, types=ANY_TYPES, most=5, nodes=4, low=0):
    """Draws a head, some groups and their nodes."""
    world.head()
    for _ in range(world.between(1, most)):
        group = world.group(dict(world.pick(types)), low=world.pick([0, 0, low, world.between(0, low)]))
        world.nodes(group, world.between(0, min(nodes, group["max"])))
    return [made for made in world.types[1:]]


def some_tasks(world, most=4, count=12):
    shapes = world.shapes()
    for _ in range(world.between(1, most)):
        world.tasks(world.pick(shapes), world.between(1, count), world.pick([None, []]))


def some_gang(world, strategy=None, bundles=5, **more):
    shapes = world.shapes()
    drawn = [world.pick(shapes) for _ in range(world.pick([1, 1, 2]))]
    return world.gang(strategy or world.pick(STRATEGIES), [world.pick(drawn) for _ in range(world.between(1, bundles))], **more)


@family
def minmax(world):
    """Minima to fill, and more nodes than a lowered maximum allows."""
    for group in groups(world, low=5):
        group["max"] = max(group["min"], group["max"] - world.pick([0, 0, 2, 4]))
        world.pending(group, world.pick([0, 0, 1, 2]))
    if world.chance(0.5):
        some_tasks(world)


@family
def global_max(world):
    """A limit for the whole cluster that binds before those of the groups."""
    groups(world)
    some_tasks(world, count=30)
    if world.chance(0.4):
        some_gang(world)
    world.extra["max_num_nodes"] = world.between(1, world.count + 3)


@family
def tasks(world):
    groups(world)
    some_tasks(world, most=6, count=20)


@family
def scale_from_zero(world):
    world.head(CPU=0)
    for _ in range(world.between(2, 7)):
        world.group(dict(world.pick(ANY_TYPES)))
    some_tasks(world, most=6, count=25)


@family
def fraction(world):
    """Parts of a CPU that doubles hold exactly."""
    groups(world, types=CPU_TYPES[:4])
    for _ in range(world.between(1, 4)):
        world.tasks({"CPU": world.pick([0.5, 0.25, 0.125, 1.5, 0.75, 2.25])}, world.between(1, 30))


@family
def float_edge(world):
    """Parts of a CPU that doubles do not hold: Ray is asked in 1/10,000."""
    groups(world, types=CPU_TYPES[:4])
    for _ in range(world.between(1, 3)):
        world.tasks({"CPU": world.pick([0.1, 0.2, 0.3, 0.7, 1.1, 0.0001, 0.3333])}, world.between(1, 30))


@family
def custom(world):
    groups(world, types=CUSTOM_TYPES + CPU_TYPES)
    some_tasks(world)


@family
def gpu(world):
    """Nodes with GPUs are spared for those that ask for GPUs, be it for none of them."""
    groups(world, types=GPU_TYPES + MEMORY_TYPES)
    some_tasks(world)
    if world.chance(0.5):
        world.tasks({"CPU": 1, "GPU": world.pick([0, 0.5, 1])}, world.between(1, 6))


@family
def memory_heavy(world):
    """Bytes outweigh all else in the score of nodes that are in use."""
    groups(world, types=MEMORY_TYPES, nodes=8)
    for _ in range(world.between(1, 4)):
        world.tasks({"CPU": world.pick([0, 1, 2]), "memory": world.between(1, 40) * GIB // 2}, world.between(1, 10))


@family
def implicit(world):
    """Resources that every node has without saying so."""
    groups(world)
    for _ in range(world.between(1, 3)):
        name = "node:__internal_implicit_resource_" + world.pick("xy")
        world.tasks({"CPU": world.pick([1, 2]), name: world.pick([0.25, 0.5, 1])}, world.between(1, 8))


def zoned(world):
    made = groups(world, most=6)
    for group in made:
        labels = {"zone": world.pick(ZONES), "market": world.pick(["spot", "demand"])}
        group["labels"] = {name: value for name, value in labels.items() if world.chance(0.7)}
    for node in world.state.node_states:
        if world.chance(0.9):
            node.labels.update(world.type(node.ray_node_type_name)["labels"])


def some_selector(world):
    zones = world.random.sample(ZONES, world.between(1, 2))
    conditions = {world.pick(["zone", "not_zone"]): zones}
    if world.chance(0.3):
        conditions[world.pick(["market", "not_market"])] = ["spot"]
    return selector(**conditions)


@family
def labels(world):
    zoned(world)
    for _ in range(world.between(1, 4)):
        world.tasks(world.pick(world.shapes()), world.between(1, 8), [some_selector(world)])


@family
def fallback(world):
    """Several selectors, the most wanted first."""
    zoned(world)
    for _ in range(world.between(1, 4)):
        choices = [some_selector(world) for _ in range(world.between(2, 4))]
        world.tasks(world.pick(world.shapes()), world.between(1, 8), choices)
    if world.chance(0.5):
        some_tasks(world, most=2)


@family
def gang_pack(world):
    groups(world)
    some_gang(world, "PACK")
    if world.chance(0.5):
        some_gang(world, "PACK", is_legacy=True)


@family
def gang_spread(world):
    groups(world)
    some_gang(world, "SPREAD", bundles=8)


@family
def gang_strict_pack(world):
    groups(world)
    for _ in range(world.between(1, 3)):
        some_gang(world, "STRICT_PACK")


@family
def gang_strict_spread(world):
    """Each bundle on a node of its own; some are placed already."""
    groups(world, nodes=6)
    for _ in range(world.between(1, 3)):
        label = some_gang(world, "STRICT_SPREAD", bundles=6, state=world.pick(["PENDING", "RESCHEDULING"]))
        for node in world.state.node_states:
            if world.chance(0.2):
                node.dynamic_labels[label] = ""


@family
def gang_labels(world):
    zoned(world)
    for _ in range(world.between(1, 3)):
        some_gang(world, selectors=[some_selector(world) for _ in range(world.between(1, 2))])


@family
def gang_mixed(world):
    groups(world)
    for _ in range(world.between(2, 6)):
        some_gang(world, is_legacy=world.chance(0.2))
    if world.chance(0.6):
        some_tasks(world)
    if world.chance(0.2):
        # The GCS sends groups of which nothing is pending any more.
        world.gang("PACK", [])


@family
def constraint(world):
    """`request_resources`, met or not, with and without tasks."""
    groups(world, nodes=6)
    shapes = world.shapes()
    world.constraint(*[(world.pick(shapes), world.between(1, 8)) for _ in range(world.between(1, 3))])
    if world.chance(0.5):
        some_tasks(world)


@family
def idle(world):
    """Who goes, and who is kept by minimum, demand, constraint or a time-out of its own."""
    for group in groups(world, nodes=8, low=3):
        if world.chance(0.4):
            group["idle_timeout_s"] = world.pick([0.0, 10.0, 60.0, 300.0])
    if world.chance(0.2):
        world.extra["idle_timeout_s"] = None
    if world.chance(0.4):
        some_tasks(world, most=2, count=4)
    if world.chance(0.3):
        world.constraint((world.pick(world.shapes()), world.between(1, 4)))


@family
def pending(world):
    """Instances on their way take what they will be able to take."""
    for group in groups(world):
        world.pending(group, world.pick([0, 1, 2, 4]))
    some_tasks(world)
    if world.chance(0.3):
        some_gang(world)


@family
def draining(world):
    """Instances on their way out, at every step of it."""
    for group in groups(world, low=2):
        for _ in range(world.between(0, 3)):
            node = world.node(group["name"], idle_s=world.pick([61, 400]), row=world.pick(["RAY_STOP_REQUESTED"] + GONE[:1]))
            node.status = "DRAINING"
        for _ in range(world.pick([0, 1])):
            world.row(group["name"], world.pick(GONE))
    some_tasks(world)


@family
def dead(world):
    """The GCS lists nodes that have died; they have no row any more."""
    groups(world)
    for number in range(world.between(1, 4)):
        node = world.state.node_states.add(node_id=bytes([9] * 27 + [number]), status="DEAD")
        node.instance_id, node.ray_node_type_name = f"dead-{number}", world.pick(world.types)["name"]
    some_tasks(world)


@family
def priority(world):
    """Groups that fit equally well: priority decides, then the order of the groups."""
    world.head(CPU=0)
    shape = dict(world.pick(MEMORY_TYPES + CPU_TYPES))
    for _ in range(world.between(2, 6)):
        own = shape if world.chance(0.8) else dict(world.pick(ANY_TYPES))
        world.group(dict(own), priority=world.between(-2, 3))
    some_tasks(world)


@family
def availability(world):
    """Groups that have failed lately come after those that have not."""
    priority(world)
    names = [group["name"] for group in world.types[1:]]
    for key in ("recoverable_resource_availabilities", "cloud_resource_availabilities"):
        scores = {name: world.pick([0.0, 0.1, 0.25, 0.5, 0.9]) for name in names if world.chance(0.6)}
        world.extra[key] = scores


@family
def pending_idle(world):
    """Instances on their way that nobody needs any more, seen several times."""
    for group in groups(world, low=2):
        world.pending(group, world.between(0, 5))
    if world.chance(0.6):
        some_tasks(world, most=2, count=4)
    world.extra["pending_idle_timeout_s"] = world.pick([0.0, 50.0, 100.0])
    world.extra["clock_steps_s"] = [1000.0, 1000.0 + world.pick([40, 50, 60]), 1100.5, 1101.0, 1260.0]


@family
def ippr(world):
    """Pods that can grow in place."""
    made = groups(world, types=MEMORY_TYPES[:9], most=3, nodes=5)
    specs, statuses = {}, []
    for group in made:
        if world.chance(0.3):
            continue
        cpu, memory = group["resources"]["CPU"], group["resources"]["memory"]
        factor = world.pick([2, 4])
        limits = {"max_cpu": cpu * factor, "max_memory": memory * factor}
        specs[group["name"]] = {"min_cpu": cpu, "min_memory": memory, **limits, "resize_timeout": 60}
        for row in world.instances:
            if row["type"] == group["name"] and row["status"] == "RAY_RUNNING":
                statuses.append(resize_status(world, group, row, limits))
    world.extra["ippr"] = {"groups": specs, "statuses": statuses}
    some_tasks(world)
    if world.chance(0.3):
        some_gang(world)


def resize_status(world, group, row, limits):
    cpu, memory = group["resources"]["CPU"], group["resources"]["memory"]
    status = {"group": group["name"], "cloud_instance_id": row["cloud_id"]}
    status |= {"current_cpu": cpu, "current_memory": memory, "desired_cpu": cpu, "desired_memory": memory}
    kind = world.pick(["still", "still", "still", "resizing", "failed", "grown"])
    if kind == "resizing":
        status |= {"desired_cpu": limits["max_cpu"], "desired_memory": limits["max_memory"], "resizing_at": 1}
        status |= {"k8s_resize_status": "inprogress"}
    elif kind == "failed":
        status |= {"last_failed_at": 1, "last_failed_reason": "no room"}
    elif kind == "grown":
        status |= {"suggested_max_cpu": cpu, "suggested_max_memory": memory}
    return status


@family
def mixed(world):
    """A bit of everything."""
    for group in groups(world, nodes=6, low=2):
        world.pending(group, world.pick([0, 0, 1]))
        group["priority"] = world.pick([0, 0, 1])
    some_tasks(world)
    for _ in range(world.between(0, 3)):
        some_gang(world)
    if world.chance(0.3):
        world.constraint((world.pick(world.shapes()), world.between(1, 5)))


@family
def large(world):
    """More of everything; still small enough for Ray to answer in a second or so."""
    groups(world, most=8, nodes=8)
    for group in world.types[1:]:
        group["max"] += world.between(0, 60)
        world.nodes(group, world.between(0, 8))
        world.pending(group, world.between(0, 4))
    some_tasks(world, most=12, count=60)
    for _ in range(world.between(0, 10)):
        some_gang(world, bundles=8)


@family
def odd(world):
    """Nothing at all, zero amounts, zero maxima, nodes that are not what their group says, unknown operators."""
    for group in groups(world, nodes=3):
        if world.chance(0.3):
            group["max"] = group["min"]
        if world.chance(0.4):
            world.node(group["name"], totals=dict(world.pick(ANY_TYPES)), used=world.pick([0, 0.5]))
    if world.chance(0.5):
        world.tasks({}, world.between(1, 3), world.pick([None, []]))
    if world.chance(0.5):
        world.tasks({"CPU": 0, "special": world.pick([0, 1])}, world.between(1, 3))
    if world.chance(0.5):
        unknown = selector(zone=["a"])
        unknown.label_constraints[0].operator = 0
        world.tasks({"CPU": 1}, 2, [unknown] + world.pick([[], [selector(not_zone=["b"])]]))
    if world.chance(0.3):
        some_tasks(world)
    if world.chance(0.3):
        world.gang("STRICT_PACK", [{}])


@family
def hostile_avail_gt_total(world):
    """More is free than there is: Ray raises, as in the next two."""
    made = groups(world, nodes=3)
    some_tasks(world)
    world.node(made[0]["name"]).available_resources["CPU"] = 99


@family
def hostile_removed_group(world):
    made = groups(world, nodes=3)
    some_tasks(world)
    world.node(made[0]["name"])
    world.types.remove(made[0])


@family
def hostile_two_constraints(world):
    groups(world, nodes=3)
    some_tasks(world)
    world.constraint(({"CPU": 1}, 1))
    world.constraint(({"CPU": 2}, 1))


@family
def min_over_global(world):
    """Minima above the limit for the whole cluster, which KubeRay never sets."""
    for group in groups(world, nodes=2):
        group["min"] = world.between(1, 5)
        group["max"] = max(group["max"], group["min"])
    most = sum(group["min"] for group in world.types)
    world.extra["max_num_nodes"] = world.between(1, most)


@family
def outdated(world):
    """Nodes of a launch configuration that has changed; KubeRay has Ray not look."""
    for group in groups(world):
        group["launch_config_hash"] = "new"
    for row in world.instances:
        row["launch_config_hash"] = world.pick(["new", "new", "old"])
    world.extra["disable_launch_config_check"] = False
    some_tasks(world)


def draw(seed, index, chosen):
    """Returns case `index` of a seed; the families take turns."""
    name = chosen[index % len(chosen)]
    world = World(seed, index, name)
    FAMILIES[name](world)
    return world
