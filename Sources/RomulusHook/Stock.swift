import CLinux
import CXen

/// The stock functions behind ours, found by the loader's own order (RTLD_NEXT): we are linked with their libraries.
enum Stock {
    typealias RemusStart =
        @convention(c) (
            OpaquePointer?, UnsafeMutablePointer<libxl_domain_remus_info>?, UInt32, Int32, Int32,
            UnsafePointer<libxl_asyncop_how>?
        ) -> Int32
    typealias Resume =
        @convention(c) (OpaquePointer?, UInt32, Int32, UnsafePointer<libxl_asyncop_how>?) -> Int32
    typealias CreateRestore =
        @convention(c) (
            OpaquePointer?, UnsafeMutablePointer<libxl_domain_config>?, UnsafeMutablePointer<UInt32>?, Int32, Int32,
            UnsafePointer<libxl_domain_restore_params>?, UnsafePointer<libxl_asyncop_how>?,
            UnsafePointer<libxl_asyncprogress_how>?
        ) -> Int32
    typealias EnableDeath =
        @convention(c) (OpaquePointer?, UInt32, libxl_ev_user, UnsafeMutablePointer<OpaquePointer?>?) -> Int32
    typealias DisableDeath = @convention(c) (OpaquePointer?, OpaquePointer?) -> Void
    typealias EventWait =
        @convention(c) (
            OpaquePointer?, UnsafeMutablePointer<UnsafeMutablePointer<libxl_event>?>?, UInt64, EventPredicate?,
            UnsafeMutableRawPointer?
        ) -> Int32
    typealias DomainSave =
        @convention(c) (
            OpaquePointer?, Int32, UInt32, UInt32, UnsafeMutablePointer<save_callbacks>?, xc_stream_type_t, Int32
        ) -> Int32

    static let remusStart = find("libxl_domain_remus_start", RemusStart.self)
    static let resume = find("libxl_domain_resume", Resume.self)
    static let createRestore = find("libxl_domain_create_restore", CreateRestore.self)
    static let enableDeath = find("libxl_evenable_domain_death", EnableDeath.self)
    static let disableDeath = find("libxl_evdisable_domain_death", DisableDeath.self)
    static let eventWait = find("libxl_event_wait", EventWait.self)
    static let domainSave = find("xc_domain_save", DomainSave.self)

    private static func find<Function>(_ name: String, _: Function.Type) -> Function {
        guard let symbol = romulus_next_symbol(name) else {
            // The caller was linked against this very name, so it cannot be missing.
            fatalError("romulus: no stock \(name) behind ours")
        }
        // The type is the header's: Exports.swift holds ours against it, and these repeat ours.
        return unsafeBitCast(symbol, to: Function.self)
    }
}
