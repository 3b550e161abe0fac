@testable import RomulusHost

/// A host's network as the kernel keeps it: devices with indexes, an ingress, and plugs as net/sched/sch_plug.c counts.
final class SimulatedNetwork: HostNetwork {
    struct Plug {
        private(set) var queue: [String] = []
        private var current = 0
        private var last = 0
        private var toRelease = 0
        private var isOpen = false

        mutating func command(_ command: PlugCommand) {
            switch command {
            case .buffer: (last, current, isOpen) = (current, 0, false)
            case .releaseOne: (toRelease, last) = (toRelease + last, 0)
            case .releaseIndefinite: (last, current, toRelease, isOpen) = (0, 0, 0, true)
            }
        }

        mutating func add(_ packet: String) {
            if !isOpen { current += 1 }
            queue.append(packet)
        }

        mutating func takeReleased() -> [String] {
            let count = isOpen ? queue.count : min(toRelease, queue.count)
            if !isOpen { toRelease -= count }
            defer { queue.removeFirst(count) }
            return Array(queue.prefix(count))
        }
    }

    private struct Link {
        var device: NetworkDevice
        var ingress = Ingress.free
        var plug: Plug?
    }

    private var links: [Link] = []
    private var nextIndex: Int32 = 10
    private var hasChanged = false
    private(set) var isWatched = false
    /// What the world has seen.
    private(set) var seen: [String] = []
    /// What the next calls are to fail with.
    var failure: NetworkBufferError?

    private subscript(_ index: Int32) -> Link? {
        get { links.first { $0.device.index == index } }
        set {
            links.removeAll { $0.device.index == index }
            if let newValue { links.append(newValue) }
        }
    }

    // MARK: What happens on the host

    var names: Set<String> { Set(links.map(\.device.name)) }
    var redirected: Set<String> { Set(links.filter { $0.ingress != .free }.map(\.device.name)) }

    func plug(in other: String) { _ = plug(in: other, backend: nil) }

    /// A new device; a network device of a guest's has a backend, unless a device model emulates it.
    @discardableResult func plug(in name: String, backend: VifName?) -> Int32 {
        nextIndex += 1
        self[nextIndex] = Link(device: NetworkDevice(index: nextIndex, name: name, backend: backend))
        hasChanged = true
        return nextIndex
    }

    func remove(_ name: String) {
        links.removeAll { $0.device.name == name }
        hasChanged = true
    }

    func rename(_ name: String, _ newName: String) {
        change(name) { $0.device.name = newName }
    }

    /// tc qdisc del dev NAME ingress
    func clearIngress(_ name: String) { change(name) { $0.ingress = .free } }
    /// tc qdisc add dev NAME clsact, with a filter
    func occupyIngress(_ name: String) { change(name) { $0.ingress = .foreign } }
    /// tc qdisc del dev NAME root
    func removePlug(_ name: String) { change(name) { $0.plug = nil } }

    private func change(_ name: String, _ body: (inout Link) -> Void) {
        guard let index = links.firstIndex(where: { $0.device.name == name }) else { return }
        body(&links[index])
        hasChanged = true
    }

    /// A guest sends.
    func send(_ packet: String, from name: String) {
        guard let link = links.first(where: { $0.device.name == name }) else { return }
        guard case .redirected(let target) = link.ingress else {
            seen.append(packet)
            return
        }
        guard var ifb = self[target] else { return }
        if ifb.plug == nil { seen.append(packet) }
        ifb.plug?.add(packet)
        self[target] = ifb
        drain(target)
    }

    private func drain(_ index: Int32) {
        if let released = self[index]?.plug?.takeReleased() { seen += released }
    }

    // MARK: HostNetwork

    func devices() throws(NetworkBufferError) -> [NetworkDevice] {
        if let failure { throw failure }
        return links.map(\.device)
    }

    func addIFB(_ name: String) throws(NetworkBufferError) -> NetworkDevice {
        if let failure { throw failure }
        guard !names.contains(name) else {
            throw .refused(what: "making the buffer device", device: name, reason: "it is there")
        }
        nextIndex += 1
        let device = NetworkDevice(index: nextIndex, name: name, isIFB: true)
        self[nextIndex] = Link(device: device)
        hasChanged = true
        return device
    }

    func delete(_ device: NetworkDevice) throws(NetworkBufferError) {
        self[device.index] = nil
        hasChanged = true
    }

    func redirect(_ device: NetworkDevice, to target: NetworkDevice) throws(NetworkBufferError) {
        guard self[device.index]?.ingress == .free else { throw .ingressInUse(device: device.name) }
        self[device.index]?.ingress = .redirected(to: target.index)
    }

    func removeRedirect(_ device: NetworkDevice) throws(NetworkBufferError) {
        self[device.index]?.ingress = .free
        hasChanged = true
    }

    func ingress(of device: NetworkDevice) -> Ingress { self[device.index]?.ingress ?? .free }

    func addPlug(_ device: NetworkDevice, limitBytes: Int) throws(NetworkBufferError) {
        self[device.index]?.plug = Plug()
    }

    func plugged() -> Set<Int32> { Set(links.filter { $0.plug != nil }.map(\.device.index)) }

    func command(_ command: PlugCommand, _ device: NetworkDevice) throws(NetworkBufferError) {
        guard self[device.index]?.plug != nil else {
            throw .refused(what: "the plug (\(command))", device: device.name, reason: "it is not there")
        }
        self[device.index]?.plug?.command(command)
        drain(device.index)
    }

    func plugStatistics(_ devices: [NetworkDevice]) -> (packets: Int, bytes: Int, drops: Int) {
        (devices.reduce(0) { $0 + (self[$1.index]?.plug?.queue.count ?? 0) }, 0, 0)
    }

    func waitUntilEmpty(_ devices: [NetworkDevice]) {}

    func watch() throws(NetworkBufferError) { isWatched = true }
    var changeDescriptor: Int32 { -1 }

    func takeChanges() -> Bool {
        defer { hasChanged = false }
        return hasChanged
    }
}
