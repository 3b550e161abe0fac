import CXen
import Glibc
import RomulusCore

/// What an x86 HVM or PVH guest is beside its memory, as records of libxc's stream.
final class MachineState {
    private let interface: OpaquePointer?
    private let domain: UInt32
    private var context: [UInt8] = []

    /// Room that `write(to:)` needs. The largest HVM context (every vCPU's) is some 10 KiB a vCPU.
    static let roomBytes = 2 << 20

    init(_ interface: OpaquePointer?, _ domain: UInt32) {
        self.interface = interface
        self.domain = domain
    }

    // MARK: Static data

    /// X86_CPUID_POLICY and X86_MSR_POLICY.
    func writeStatic(to buffer: inout RecordBuffer) throws(SystemError) {
        var leafCount: UInt32 = 0
        var entryCount: UInt32 = 0
        guard xc_cpu_policy_get_size(interface, &leafCount, &entryCount) >= 0, let policy = xc_cpu_policy_init() else {
            throw SystemError("the size of a CPU policy cannot be read")
        }
        defer { xc_cpu_policy_destroy(policy) }
        var leaves = [xen_cpuid_leaf_t](repeating: xen_cpuid_leaf_t(), count: Int(leafCount))
        var entries = [xen_msr_entry_t](repeating: xen_msr_entry_t(), count: Int(entryCount))
        guard xc_cpu_policy_get_domain(interface, domain, policy) == 0,
            xc_cpu_policy_serialise(interface, policy, &leaves, &leafCount, &entries, &entryCount) == 0
        else { throw SystemError("the guest's CPU policy cannot be read") }
        leaves.withUnsafeBytes { leaves in
            let body = UnsafeRawBufferPointer(
                rebasing: leaves.prefix(Int(leafCount) * MemoryLayout<xen_cpuid_leaf_t>.stride))
            if !body.isEmpty { buffer.record(.x86CPUIDPolicy, body) }
        }
        entries.withUnsafeBytes { entries in
            let body = UnsafeRawBufferPointer(
                rebasing: entries.prefix(Int(entryCount) * MemoryLayout<xen_msr_entry_t>.stride))
            if !body.isEmpty { buffer.record(.x86MSRPolicy, body) }
        }
    }

    // MARK: At a checkpoint

    /// X86_TSC_INFO, HVM_CONTEXT, HVM_PARAMS, of a guest that stands still.
    func write(to buffer: inout RecordBuffer) throws(SystemError) {
        try writeTSC(to: &buffer)
        try writeContext(to: &buffer)
        try writeParameters(to: &buffer)
    }

    private func writeTSC(to buffer: inout RecordBuffer) throws(SystemError) {
        var mode: UInt32 = 0
        var kHz: UInt32 = 0
        var nanoseconds: UInt64 = 0
        var incarnation: UInt32 = 0
        guard xc_domain_get_tsc_info(interface, domain, &mode, &nanoseconds, &kHz, &incarnation) >= 0 else {
            throw SystemError("the guest's TSC cannot be read")
        }
        let body = (mode, kHz, nanoseconds, incarnation, UInt32(0))
        withUnsafeBytes(of: body) { buffer.record(.x86TSCInfo, $0) }
    }

    private func writeContext(to buffer: inout RecordBuffer) throws(SystemError) {
        let size = xc_domain_hvm_getcontext(interface, domain, nil, 0)
        guard size >= 0, Int(size) <= Self.roomBytes / 2 else {
            throw SystemError("the guest's HVM context has no size")
        }
        if context.count < Int(size) { context = [UInt8](repeating: 0, count: Int(size)) }
        let filled = xc_domain_hvm_getcontext(interface, domain, &context, UInt32(size))
        guard filled >= 0, filled <= size else { throw SystemError("the guest's HVM context cannot be read") }
        context.withUnsafeBytes { buffer.record(.hvmContext, UnsafeRawBufferPointer(rebasing: $0.prefix(Int(filled)))) }
    }

    /// Those that a guest keeps when it moves; the specification leaves the choice to the saver, so it is the stock one's.
    private static let parameters: [Int32] = [
        HVM_PARAM_STORE_PFN, HVM_PARAM_IOREQ_PFN, HVM_PARAM_BUFIOREQ_PFN, HVM_PARAM_PAGING_RING_PFN,
        HVM_PARAM_MONITOR_RING_PFN, HVM_PARAM_SHARING_RING_PFN, HVM_PARAM_VM86_TSS_SIZED, HVM_PARAM_CONSOLE_PFN,
        HVM_PARAM_ACPI_IOPORTS_LOCATION, HVM_PARAM_VIRIDIAN, HVM_PARAM_IDENT_PT, HVM_PARAM_VM_GENERATION_ID_ADDR,
        HVM_PARAM_IOREQ_SERVER_PFN, HVM_PARAM_NR_IOREQ_SERVER_PAGES, HVM_PARAM_X87_FIP_WIDTH, HVM_PARAM_MCA_CAP,
    ]

    private func writeParameters(to buffer: inout RecordBuffer) throws(SystemError) {
        // A count and a reserved word, then pairs of index and value.
        var words: InlineArray<33, UInt64> = .init(repeating: 0)
        var count = 0
        for index in Self.parameters {
            var value: UInt64 = 0
            guard xc_hvm_param_get(interface, domain, UInt32(index), &value) == 0 else {
                throw SystemError("the guest's HVM parameter \(index) cannot be read")
            }
            guard value != 0 else { continue }
            words[1 + 2 * count] = UInt64(index)
            words[2 + 2 * count] = value
            count += 1
        }
        guard count > 0 else { return }
        words[0] = UInt64(count)
        withUnsafeBytes(of: &words) {
            buffer.record(.hvmParameters, UnsafeRawBufferPointer(rebasing: $0.prefix(8 + 16 * count)))
        }
    }
}
