"""The review desk: where people look at the night's results, correct and sign them.

    serving            serves the application
    application        the application: its routes, and what each error answers
    services           what the routes work with
    guards             what every request passes first: size, origin, session; the headers of every answer

    login_pages        logging in and out
    sessions           sessions of people
    people             who somebody is, and what each role may do
    local_users        people with a password of bloodcell's own (`bloodcell users`)
    users_file         the file of those people
    passwords          which passwords are allowed, and their hashes
    first_person       how the first person gets in
    ldap_login         people log in by the site's directory
    openid_pages       people log in by the site's OpenID provider, and again before a signature
    oidc_login         that log-in itself
    openid_provider    what the OpenID provider says of itself, its keys, and the requests to it

    pages, worklist    the worklist
    slide_routes       the page of a slide, and what people do there
    slide_page         what that page shows
    cell_detail        what the large view of a cell shows
    live_result        the result that a count of now would give
    sprites            thumbnails
    reading_routes     blind reading, second reading, adjudication
    second_readings    the cells that a second person has to read
    look_back_routes   a slide's history, its versions, what was reported on a date
    look_back          what happened to a slide
    reported_results   what was reported on a date
    statistics_routes  the page of the statistics
    desk_statistics    what people at the desk do, in numbers
    reader_agreement   Cohen's kappa with an interval
    training_queue_routes, training_queue  cells that are worth a label for training
    people_pages       who is logged in
    message_pages      messages to other systems that wait or were rejected
    quality_pages      what the quality control holds, control charts, overrides
    validation_pages   the validation of a candidate, for the person who approves it
    writing            labels, comments, leases and signatures, through functions of the database

    desk_records       what pages and API exchange with the browser
    navigation         the pages of the desk, and what waits on each
    texts              the texts, by language; shaped_texts are those with values in them
    static_files       scripts and styles

The database functions are in sql/views/75_review_desk.sql: each looks up whose session it is, so that no request can
act in another person's name.
"""
